/** The format of trace files. */
import { createHash } from "node:crypto";
import { brotliCompressSync, brotliDecompressSync, constants } from "node:zlib";
import { flatten, reader, text, unsigned } from "../../npm/binary-format.ts";
import {
  alignmentBitsAndSize,
  groups,
  kindAndSlot,
  Op,
  recorder,
  type Group,
  type Workload,
} from "./workload.ts";

/*
 * A trace file is compressed with brotli. It contains:
 *
 *   8 bytes   "rsbtrace"
 *   8 bytes   the first 8 bytes of the SHA-256 of the rest
 *   varint    length of the header, then the header: JSON { name, group, about, calls }
 *   calls     one byte each: the kind of call (workload.ts, Op)
 *   varints   the size of each call that has one, in order; an aligned one's is preceded by log2 of its alignment
 *   varints   the age of the block in each free and realloc: how many blocks were allocated since, itself included
 *
 * Separate columns, with ages of blocks, compress several times better than records with slot numbers.
 */

const MAGIC = "rsbtrace";
const DIGEST_BYTES = 8;

/** Thrown for a file that is not a trace, or damaged. The message is one line. */
export class DamagedTrace extends Error {}

export function encodeTrace(workload: Workload): Uint8Array {
  const calls = workload.ops.length / 2;
  const kinds = new Uint8Array(calls);
  const sizes: number[] = [];
  const ages: number[] = [];
  const madeAs = new Uint32Array(workload.slots);
  let made = 0;
  for (let i = 0; i < calls; i++) {
    const [word, argument] = [workload.ops[2 * i]!, workload.ops[2 * i + 1]!];
    const [kind, slot] = kindAndSlot(word);
    kinds[i] = kind;
    if (kind === Op.aligned) sizes.push(...alignmentBitsAndSize(argument));
    else if (kind !== Op.free) sizes.push(argument);
    if (kind === Op.free || kind === Op.realloc) ages.push(made - madeAs[slot]!);
    else madeAs[slot] = made++;
  }
  const header: Header = { name: workload.name, group: workload.group, about: workload.about, calls };
  const columns = [kinds, sizes.map(unsigned), ages.map(unsigned)];
  const body = flatten([text(JSON.stringify(header)), ...columns]);
  const file = Buffer.concat([Buffer.from(MAGIC), digest(body), body]);
  return brotliCompressSync(file, {
    params: { [constants.BROTLI_PARAM_LGWIN]: 24, [constants.BROTLI_PARAM_SIZE_HINT]: file.length },
  });
}

/** A trace whose calls have not been decoded. */
export interface PackedTrace {
  readonly name: string;
  readonly group: Group;
  unpack(): Workload;
}

interface Header {
  readonly name: string;
  readonly group: Group;
  readonly about: string;
  readonly calls: number;
}

/** Reads a trace file. Throws a DamagedTrace if `encodeTrace` did not write it like this. */
export function decodeTrace(bytes: Uint8Array): PackedTrace {
  let file: Buffer;
  try {
    file = brotliDecompressSync(bytes);
  } catch {
    throw new DamagedTrace("not brotli data, or cut short");
  }
  if (file.toString("latin1", 0, MAGIC.length) !== MAGIC) throw new DamagedTrace("not a trace file");
  const body = file.subarray(MAGIC.length + DIGEST_BYTES);
  if (!digest(body).equals(file.subarray(MAGIC.length, MAGIC.length + DIGEST_BYTES)))
    throw new DamagedTrace("checksum mismatch");
  const read = reader(body);
  const header = JSON.parse(read.text()) as Header;
  if (!(header.group in groups)) throw new DamagedTrace(`unknown group ${header.group}`);
  return {
    name: header.name,
    group: header.group,
    unpack: () => unpack(header, body.subarray(read.position())),
  };
}

function unpack({ name, group, about, calls }: Header, columns: Uint8Array): Workload {
  const kinds = columns.subarray(0, calls);
  const read = reader(columns, calls);

  const sizes: number[] = [];
  for (const kind of kinds) {
    if (kind === Op.free) continue;
    if (kind === Op.aligned) sizes.push(read.u32());
    sizes.push(read.u32());
  }

  const into = recorder();
  const slotOf: number[] = [];
  const block = () => slotOf[slotOf.length - read.u32()]!;
  let size = 0;
  for (const kind of kinds) {
    if (kind === Op.malloc) slotOf.push(into.malloc(sizes[size++]!));
    else if (kind === Op.calloc) slotOf.push(into.calloc(sizes[size++]!));
    else if (kind === Op.aligned) slotOf.push(into.aligned(2 ** sizes[size++]!, sizes[size++]!));
    else if (kind === Op.realloc) into.realloc(block(), sizes[size++]!);
    else if (kind === Op.free) into.free(block());
    else throw new DamagedTrace(`unknown kind of call ${kind}`);
  }
  return into.finish(name, group, about);
}

function digest(bytes: Uint8Array): Buffer {
  return createHash("sha256").update(bytes).digest().subarray(0, DIGEST_BYTES);
}
