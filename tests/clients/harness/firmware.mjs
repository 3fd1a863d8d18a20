// Application binaries as a build makes them: nothing in them runs, but every number that a reader looks at is right.

import { createHash } from 'node:crypto';
import { crc32 } from 'node:zlib';

/** Where a user part of a Gen 3 device is loaded. */
const START = 0xb4000;
const USER_PART = 5;
const SYSTEM_PART = 4;
/** The least version of the system part that it runs on: Device OS 6.2, which knows assets. */
const SYSTEM_VERSION = 6200;
/** Of the suffix: product, version, reserved, SHA-256 and its own size. */
const SUFFIX_LEN = 40;
const PREFIX_LEN = 24;
const CRC_LEN = 4;
const CODE_LEN = 400;

/** The application of a `product` in a `version`. Without them it is one for any device. */
export function application({ product = 0xffff, version = 0xffff, platform = 13 } = {}) {
    const len = PREFIX_LEN + CODE_LEN + SUFFIX_LEN + CRC_LEN;
    const module = Buffer.alloc(len, 0x5a);
    prefix(platform, len).copy(module);
    const suffix = len - CRC_LEN - SUFFIX_LEN;
    module.writeUInt16LE(product & 0xffff, suffix);
    module.writeUInt16LE(version, suffix + 2);
    module.writeUInt16LE(0, suffix + 4);
    createHash('sha256')
        .update(module.subarray(0, suffix + 6))
        .digest()
        .copy(module, suffix + 6);
    module.writeUInt16LE(SUFFIX_LEN, suffix + 38);
    module.writeUInt32BE(crc32(module.subarray(0, len - CRC_LEN)), len - CRC_LEN);
    return module;
}

function prefix(platform, len) {
    const bytes = Buffer.alloc(PREFIX_LEN);
    bytes.writeUInt32LE(START, 0);
    bytes.writeUInt32LE(START + len - CRC_LEN, 4);
    bytes.writeUInt16LE(6, 10);
    bytes.writeUInt16LE(platform, 12);
    bytes.writeUInt8(USER_PART, 14);
    bytes.writeUInt8(1, 15);
    bytes.writeUInt8(SYSTEM_PART, 16);
    bytes.writeUInt8(1, 17);
    bytes.writeUInt16LE(SYSTEM_VERSION, 18);
    return bytes;
}
