// Templates of hooks against the npm package `mustache`: both fill in the same made-up templates from the same made-up views.
//
// `HOLDFAST_MUSTACHE_SEED` repeats a run that failed; `HOLDFAST_MUSTACHE_CASES` makes it longer. What differs on purpose is left out: see
// webhooks/src/template.rs.

import assert from 'node:assert/strict';
import { randomInt } from 'node:crypto';
import { join } from 'node:path';
import { test } from 'node:test';

import { mustache } from './harness/clients.mjs';
import { PROGRAMS, Program, plainEnvironment } from './harness/processes.mjs';

const SEED = Number(process.env.HOLDFAST_MUSTACHE_SEED ?? randomInt(2 ** 31));
const CASES = Number(process.env.HOLDFAST_MUSTACHE_CASES ?? 5000);
/** Of so many cases at least, both say something. */
const COMPARED_MIN = 0.5;
const ENTITIES = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' };
const MEMBERS = ['a', 'b', 'c', 'list', 'o', 'text', '0', ''];
const PATHS = ['.', 'a.b', 'o.a', 'o.list', 'list.0', 'list.1.a', 'list.length', 'text.length', 'text.0', 'a.b.c', ' a ', 'o.'];
const NAMES = [...MEMBERS, ...PATHS];
const BLANKS = ['', '', ' ', '\n', '\r\n', '\t', '  \n', '\u00a0', '\ufeff', '\u0085', '\n\n'];
const WORDS = ['x', 'é', '<', '&', '"', "'", '/', '{', '}', '=', '`', '0', '{{', '}}', '|'];
const TEXTS = ['', 'plain', '<b>', 'a&b', `"q'`, '0', '/=`', 'né', 'false'];
const NUMBERS = [0, 1, -1, 1.5, 21.1, 1e20, 1e21, 1e-6, 1e-7, 123456789.125, -2.5e-9, 5e300, 9007199254740991];

/** Numbers from 0 to 1 that follow from a seed (mulberry32). */
function numbers(seed) {
    let state = seed >>> 0;
    return () => {
        state = (state + 0x6d2b79f5) >>> 0;
        let mixed = Math.imul(state ^ (state >>> 15), state | 1);
        mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
        return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
    };
}

/** Makes cases up. */
class Maker {
    #next;

    constructor(seed) {
        this.#next = numbers(seed);
    }

    below = (bound) => Math.floor(this.#next() * bound);
    one = (list) => list[this.below(list.length)];
    many = (most, make) => Array.from({ length: this.below(most + 1) }, make);

    view(depth = 3) {
        const kind = this.below(depth > 0 ? 9 : 5);
        if (kind === 0) return null;
        if (kind === 1) return this.below(2) === 1;
        if (kind === 2) return this.one(NUMBERS);
        if (kind <= 4) return this.one(TEXTS);
        if (kind <= 6) return this.many(3, () => this.view(depth - 1));
        return this.object(depth);
    }

    object(depth = 4) {
        const names = MEMBERS.filter(() => this.below(2) === 1);
        return Object.fromEntries(names.map((name) => [name, this.view(depth - 1)]));
    }

    template(depth = 3, open = '{{', close = '}}') {
        return this.many(5, () => this.part(depth, open, close)).join('');
    }

    part(depth, open, close) {
        const tag = (kind, name = this.one(NAMES)) => {
            const [before, after] = [this.one(['', '', ' ']), this.one(['', '', ' ', '\n'])];
            return `${open}${kind}${before}${name}${after}${close}`;
        };
        const within = () => this.one(BLANKS) + this.template(depth - 1, open, close) + this.one(BLANKS);
        const section = (kind) => {
            const name = this.one(NAMES).trim();
            return `${tag(kind, name)}${within()}${tag('/', this.below(40) === 0 ? 'b' : name)}`;
        };
        const part = this.below(depth > 0 ? 13 : 9);
        if (part <= 2) return this.one(BLANKS);
        if (part === 3) return this.one(WORDS);
        if (part <= 5) return tag('');
        if (part === 6) return `${open}{${this.one(NAMES)}}${close}`;
        if (part === 7) return tag('&');
        if (part === 8) return this.one([tag('!', 'a comment\n of two lines'), tag('>', 'partial'), this.one(WORDS)]);
        if (part === 9) return section('^');
        if (part === 10) return this.delimiters(depth, open, close);
        return section('#');
    }

    /** A part with delimiters of its own. */
    delimiters(depth, open, close) {
        const [left, right] = this.one([['<%', '%>'], ['|', '|'], ['[[', ']]'], ['{', '}']]);
        return `${open}=${left} ${right}=${close}${this.template(depth - 1, left, right)}${left}=${open} ${close}=${right}`;
    }
}

/** What the package makes of a case: its text, `refused`, or `undefined` if it fails at what it should not. */
function theirs(package_, { template, view }) {
    package_.clearCache();
    try {
        const escape = (value) => String(value).replace(/[&<>"']/g, (character) => ENTITIES[character]);
        return package_.render(template, view, undefined, { escape });
    } catch (error) {
        return error instanceof TypeError ? undefined : 'refused';
    }
}

/** What ours makes of all cases. */
async function ours(cases) {
    const input = cases.map((one) => JSON.stringify(one)).join('\n');
    const program = await new Program(join(PROGRAMS, 'holdfast'), ['hook', 'render'], { env: plainEnvironment(), input }).end();
    assert.equal(program.code, 0, program.text);
    const lines = program.text.split('\n').filter((line) => line);
    return lines.map((line) => JSON.parse(line)).map(({ text, error }) => (error === undefined ? text : 'refused'));
}

test('templates say the same as those of the npm package', { timeout: 120_000 }, async () => {
    const package_ = await mustache();
    const maker = new Maker(SEED);
    const cases = Array.from({ length: CASES }, () => ({ template: maker.template(), view: maker.object() }));
    const made = await ours(cases);
    assert.equal(made.length, cases.length);
    let compared = 0;
    cases.forEach((one, number) => {
        const wanted = theirs(package_, one);
        // An object is JSON for us.
        if (wanted === undefined || wanted.includes('[object Object]')) return;
        compared += 1;
        assert.equal(made[number], wanted, `seed ${SEED}, case ${number}: ${JSON.stringify(one)}`);
    });
    assert.ok(compared > CASES * COMPARED_MIN, `seed ${SEED}: only ${compared} of ${CASES} could be compared`);
});
