/*
 * What a power cut would leave of a directory, kept beside it while a process works in it. Loaded into that process with LD_PRELOAD.
 *
 * The process works in the directory POWER_LIVE as always. In POWER_SHADOW stands only what a sync made durable:
 *
 *   objects/<inode>   content of a file, as of its last fsync or fdatasync
 *   dirs/<inode>      names in a directory, as of its last fsync: one line "<inode> <f or d> <name>" each
 *   kept/<inode>      a hard link to a file that lost a name: the number is not used again, and its content can still come back
 *
 * A file survives if its name does, and its name does if its directory was synced after it got it. To sync only the file is not enough: stricter than
 * most file systems. At a sync the content is compared and not what was written recorded, so it does not matter how it was written. A process killed
 * half-way through a sync leaves any mix of old and new blocks in the object, as a power cut in the middle of a sync may.
 *
 * Nothing is really synced: that would only take time. POWER_DELAY_US is how long a sync takes at most.
 *
 * POWER_KILL_AT is the step at which the process kills itself. Each call that is watched here is two steps: before it and after it.
 * What is not modelled ends the process in words.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

#define CHUNK 65536
#define REAL(name) ((__typeof__(&name))real(#name))

static char live[PATH_MAX];
static char shadow[PATH_MAX / 2];
static size_t live_len;
static long kill_at;
static long delay_us;
static atomic_long steps;
static pthread_once_t once = PTHREAD_ONCE_INIT;
/* Held while names change or are listed, and while an object is brought up to date. */
static pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER;

static void give_up(const char *what)
{
    dprintf(2, "power shim: %s: %s\n", what, strerror(errno));
    _exit(99);
}

static void *real(const char *name)
{
    void *found = dlsym(RTLD_NEXT, name);
    if (!found)
        give_up(name);
    return found;
}

static long number(const char *name)
{
    const char *text = getenv(name);
    return text ? atol(text) : 0;
}

static void set_up(void)
{
    const char *from = getenv("POWER_LIVE"), *to = getenv("POWER_SHADOW");
    if (!from || !to || !realpath(from, live) || strlen(to) >= sizeof shadow)
        give_up("POWER_LIVE and POWER_SHADOW");
    strcpy(shadow, to);
    live_len = strlen(live);
    kill_at = number("POWER_KILL_AT");
    delay_us = number("POWER_DELAY_US");
}

static int is_watched(const char *path)
{
    pthread_once(&once, set_up);
    return strncmp(path, live, live_len) == 0 && (path[live_len] == '/' || path[live_len] == 0);
}

/* Where the descriptor leads. */
static int path_of(int fd, char *path)
{
    char link[64];
    if (fd == AT_FDCWD)
        strcpy(link, "/proc/self/cwd");
    else
        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t len = readlink(link, path, PATH_MAX - 1);
    path[len < 0 ? 0 : len] = 0;
    return len >= 0;
}

static int fd_is_watched(int fd)
{
    char path[PATH_MAX];
    return path_of(fd, path) && is_watched(path);
}

static int name_is_watched(int dir, const char *name)
{
    char path[2 * PATH_MAX];
    if (name[0] == '/')
        return is_watched(name);
    if (!path_of(dir, path))
        return 0;
    size_t len = strlen(path);
    snprintf(path + len, sizeof path - len, "/%s", name);
    return is_watched(path);
}

static void step(void)
{
    if (atomic_fetch_add(&steps, 1) + 1 == kill_at) {
        kill(getpid(), SIGKILL);
        for (;;)
            pause();
    }
}

static void in_shadow(char *path, const char *kind, unsigned long inode, const char *suffix)
{
    snprintf(path, PATH_MAX, "%s/%s/%lu%s", shadow, kind, inode, suffix);
}

static void make_content_durable(int fd, const struct stat *status)
{
    static char wanted[CHUNK], held[CHUNK];
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    in_shadow(path, "objects", status->st_ino, "");
    int from = REAL(open)(link, O_RDONLY | O_CLOEXEC);
    int to = REAL(open)(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    struct stat object;
    if (from < 0 || to < 0 || fstat(to, &object) != 0)
        give_up("cannot open an object");
    if (object.st_size > status->st_size && ftruncate(to, status->st_size) != 0)
        give_up("cannot shorten an object");
    for (off_t at = 0; at < status->st_size;) {
        ssize_t len = pread(from, wanted, CHUNK, at);
        if (len < 0)
            give_up("cannot read a file");
        if (len == 0)
            break;
        ssize_t old = pread(to, held, len, at);
        if ((old != len || memcmp(wanted, held, len) != 0) && pwrite(to, wanted, len, at) != len)
            give_up("cannot write an object");
        at += len;
    }
    close(from);
    close(to);
}

static void make_names_durable(int fd, const struct stat *status)
{
    char from[PATH_MAX], fresh[PATH_MAX], path[PATH_MAX];
    in_shadow(fresh, "dirs", status->st_ino, ".new");
    in_shadow(path, "dirs", status->st_ino, "");
    DIR *names = path_of(fd, from) ? opendir(from) : NULL;
    FILE *list = fopen(fresh, "we");
    if (!names || !list)
        give_up("cannot list a directory");
    for (struct dirent *entry; (entry = readdir(names));) {
        struct stat held;
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0 ||
            fstatat(dirfd(names), entry->d_name, &held, AT_SYMLINK_NOFOLLOW) != 0)
            continue;
        if (S_ISREG(held.st_mode) || S_ISDIR(held.st_mode))
            fprintf(list, "%lu %c %s\n", (unsigned long)held.st_ino, S_ISDIR(held.st_mode) ? 'd' : 'f', entry->d_name);
    }
    closedir(names);
    if (fclose(list) != 0 || REAL(rename)(fresh, path) != 0)
        give_up("cannot write a list of names");
}

static int sync_watched(int fd)
{
    static unsigned seed = 1;
    step();
    pthread_mutex_lock(&turn);
    long wait = delay_us > 0 ? rand_r(&seed) % delay_us : 0;
    pthread_mutex_unlock(&turn);
    usleep(wait);
    pthread_mutex_lock(&turn);
    struct stat status;
    if (fstat(fd, &status) != 0)
        give_up("cannot examine what is synced");
    if (S_ISDIR(status.st_mode))
        make_names_durable(fd, &status);
    else if (S_ISREG(status.st_mode))
        make_content_durable(fd, &status);
    pthread_mutex_unlock(&turn);
    step();
    return 0;
}

int fsync(int fd)
{
    return fd_is_watched(fd) ? sync_watched(fd) : REAL(fsync)(fd);
}

int fdatasync(int fd)
{
    return fd_is_watched(fd) ? sync_watched(fd) : REAL(fdatasync)(fd);
}

/* Before a name goes away: a second one, so that its file stays. */
static void keep(int dir, const char *name)
{
    struct stat status;
    char path[PATH_MAX];
    if (fstatat(dir, name, &status, AT_SYMLINK_NOFOLLOW) != 0 || !S_ISREG(status.st_mode))
        return;
    in_shadow(path, "kept", status.st_ino, "");
    if (linkat(dir, name, AT_FDCWD, path, 0) != 0 && errno != EEXIST)
        give_up("cannot keep a file that loses its name");
}

#define WATCHED(type, dir, name, before, call)          \
    do {                                                \
        if (!name_is_watched(dir, name))                \
            return call;                                \
        step();                                         \
        pthread_mutex_lock(&turn);                      \
        before;                                         \
        type result = call;                             \
        int error = errno;                              \
        pthread_mutex_unlock(&turn);                    \
        step();                                         \
        errno = error;                                  \
        return result;                                  \
    } while (0)

int unlink(const char *name)
{
    WATCHED(int, AT_FDCWD, name, keep(AT_FDCWD, name), REAL(unlink)(name));
}

int unlinkat(int dir, const char *name, int flags)
{
    WATCHED(int, dir, name, keep(dir, name), REAL(unlinkat)(dir, name, flags));
}

int remove(const char *name)
{
    WATCHED(int, AT_FDCWD, name, keep(AT_FDCWD, name), REAL(remove)(name));
}

int rename(const char *from, const char *to)
{
    WATCHED(int, AT_FDCWD, to, keep(AT_FDCWD, to), REAL(rename)(from, to));
}

int renameat(int from_dir, const char *from, int to_dir, const char *to)
{
    WATCHED(int, to_dir, to, keep(to_dir, to), REAL(renameat)(from_dir, from, to_dir, to));
}

int renameat2(int from_dir, const char *from, int to_dir, const char *to, unsigned flags)
{
    WATCHED(int, to_dir, to, keep(to_dir, to), REAL(renameat2)(from_dir, from, to_dir, to, flags));
}

int link(const char *from, const char *to)
{
    WATCHED(int, AT_FDCWD, to, (void)0, REAL(link)(from, to));
}

int mkdir(const char *name, mode_t mode)
{
    WATCHED(int, AT_FDCWD, name, (void)0, REAL(mkdir)(name, mode));
}

/* The calls that may create a name. A file that syncs by itself at each write is not modelled. */
static int open_watched(int dir, const char *name, int flags, mode_t mode)
{
    if (flags & O_DSYNC && name_is_watched(dir, name))
        give_up("O_SYNC and O_DSYNC are not modelled");
    if (!(flags & O_CREAT))
        return REAL(openat)(dir, name, flags);
    WATCHED(int, dir, name, (void)0, REAL(openat)(dir, name, flags, mode));
}

#define MODE(flags, after)                              \
    mode_t mode = 0;                                    \
    if ((flags) & O_CREAT) {                            \
        va_list rest;                                   \
        va_start(rest, after);                          \
        mode = va_arg(rest, mode_t);                    \
        va_end(rest);                                   \
    }

int open(const char *name, int flags, ...)
{
    MODE(flags, flags)
    return open_watched(AT_FDCWD, name, flags, mode);
}

int open64(const char *name, int flags, ...)
{
    MODE(flags, flags)
    return open_watched(AT_FDCWD, name, flags | O_LARGEFILE, mode);
}

int openat(int dir, const char *name, int flags, ...)
{
    MODE(flags, flags)
    return open_watched(dir, name, flags, mode);
}

int openat64(int dir, const char *name, int flags, ...)
{
    MODE(flags, flags)
    return open_watched(dir, name, flags | O_LARGEFILE, mode);
}

int creat(const char *name, mode_t mode)
{
    return open_watched(AT_FDCWD, name, O_CREAT | O_WRONLY | O_TRUNC, mode);
}

int syncfs(int fd)
{
    if (fd_is_watched(fd)) {
        errno = ENOSYS;
        give_up("syncfs is not modelled");
    }
    return REAL(syncfs)(fd);
}

int sync_file_range(int fd, off_t offset, off_t length, unsigned flags)
{
    if (fd_is_watched(fd)) {
        errno = ENOSYS;
        give_up("sync_file_range promises nothing and is not modelled");
    }
    return REAL(sync_file_range)(fd, offset, length, flags);
}
