/*
 * A disk on which the journal's segments fare badly, and syncs of the probe that asks whether it answers. Loaded into the server with LD_PRELOAD; the
 * first letter of the file that SICK_DISK names says how:
 *
 *   s   syncs do not return until it says something else
 *   f   syncs fail
 *   l   there is no room: no segment grows
 *
 * Anything else is health.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char sickness(void)
{
    const char *path = getenv("SICK_DISK");
    char letter = 0;
    int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (fd >= 0) {
        if (read(fd, &letter, 1) != 1)
            letter = 0;
        close(fd);
    }
    return letter;
}

static int is_called(int fd, const char *name)
{
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t len = readlink(link, path, sizeof path - 1);
    path[len < 0 ? 0 : len] = 0;
    return strstr(path, name) != NULL;
}

static int is_segment(int fd)
{
    return is_called(fd, ".segment");
}

int fdatasync(int fd)
{
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
    if (is_segment(fd) || is_called(fd, "/probe")) {
        while (sickness() == 's')
            usleep(10000);
        if (sickness() == 'f') {
            errno = EIO;
            return -1;
        }
    }
    return real(fd);
}

ssize_t pwrite64(int fd, const void *bytes, size_t len, off64_t offset)
{
    ssize_t (*real)(int, const void *, size_t, off64_t) = (ssize_t (*)(int, const void *, size_t, off64_t))dlsym(RTLD_NEXT, "pwrite64");
    struct stat status;
    if (is_segment(fd) && sickness() == 'l' && fstat(fd, &status) == 0 && offset + (off64_t)len > status.st_size) {
        errno = ENOSPC;
        return -1;
    }
    return real(fd, bytes, len, offset);
}
