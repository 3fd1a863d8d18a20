// Installs the real clients if they are missing, and runs the tests with a Node that they work on: all files, or those that are named.
//
//   node tests/clients/run.mjs [NAME…]      NAME: login devices events …, as in NAME.test.mjs

import { spawn } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { install, node } from './harness/clients.mjs';

const HERE = dirname(fileURLToPath(import.meta.url));
const ENDING = '.test.mjs';
/** Files at the same time. */
const AT_ONCE = 4;

/** The files of the tests that are wanted. */
function files(wanted) {
    const names = readdirSync(HERE)
        .filter((name) => name.endsWith(ENDING))
        .map((name) => name.slice(0, -ENDING.length));
    const unknown = wanted.filter((name) => !names.includes(name));
    if (unknown.length > 0) throw new Error(`no tests named ${unknown.join(', ')}; there are: ${names.join(' ')}`);
    return (wanted.length > 0 ? wanted : names).map((name) => join(HERE, name + ENDING));
}

const chosen = files(process.argv.slice(2));
await install();
// Each file has a server and devices of its own, and clients that take a processor to start.
const concurrency = `--test-concurrency=${Math.min(availableParallelism(), AT_ONCE)}`;
const tests = spawn(await node(), ['--test', '--test-reporter=spec', concurrency, ...chosen], { stdio: 'inherit' });
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => tests.kill(signal));
tests.on('exit', (code) => process.exit(code ?? 1));
