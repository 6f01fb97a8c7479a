/**
 * Writes static libraries: GNU `ar` archives, whose first member is an index of the symbols that the other members
 * define.
 *
 *     "!<arch>\n"
 *     header "/"         number of symbols, each symbol's member (its header's offset), each symbol's name and a NUL
 *     header "name.o/"   the object                             numbers are 32-bit, big-endian
 *     ...
 *
 * Dates, owners and modes are constant, so that the output depends on the members alone.
 */
import { Buffer } from "node:buffer";

export interface Member {
  /** At most 15 ASCII characters, without a slash: longer names need a table, which this writer does not support. */
  readonly name: string;
  readonly bytes: Uint8Array;
  /** The symbols that a linker may fetch this member for. */
  readonly defines: readonly string[];
}

const MAGIC = Buffer.from("!<arch>\n");
const HEADER_SIZE = 60;
const NAME_SIZE = 15;

/** Returns the archive. Throws a RangeError for a member name that is not allowed. */
export function writeArchive(members: readonly Member[]): Uint8Array {
  const symbols = members.flatMap(({ defines }, member) => defines.map((name) => ({ name, member })));
  const names = Buffer.from(symbols.map(({ name }) => `${name}\0`).join(""));
  const index = Buffer.alloc(4 + symbols.length * 4 + names.length);

  let end = MAGIC.length + memberSize(index);
  const offsets = members.map(({ bytes }) => {
    const offset = end;
    end += memberSize(bytes);
    return offset;
  });

  index.writeUInt32BE(symbols.length, 0);
  symbols.forEach(({ member }, i) => index.writeUInt32BE(offsets[member]!, 4 + i * 4));
  names.copy(index, 4 + symbols.length * 4);

  const parts = [MAGIC, ...memberBytes("/", index)];
  for (const { name, bytes } of members) {
    if (!/^[\x21-\x2e\x30-\x7e]+$/.test(name) || name.length > NAME_SIZE) {
      throw new RangeError(`an archive member's name must be 1 to ${NAME_SIZE} ASCII characters: "${name}"`);
    }
    parts.push(...memberBytes(`${name}/`, bytes));
  }
  return new Uint8Array(Buffer.concat(parts));
}

/** Returns how many bytes a member takes in the archive: padded, since members start at even offsets. */
function memberSize(bytes: Uint8Array): number {
  return HEADER_SIZE + bytes.length + (bytes.length % 2);
}

function memberBytes(name: string, bytes: Uint8Array): Buffer[] {
  const DATE = 12;
  const OWNER = 6;
  const GROUP = 6;
  const MODE = 8;
  const SIZE = 10;
  const header = [
    name.padEnd(NAME_SIZE + 1),
    "0".padEnd(DATE),
    "0".padEnd(OWNER),
    "0".padEnd(GROUP),
    "644".padEnd(MODE),
    String(bytes.length).padEnd(SIZE),
    "`\n",
  ].join("");
  return [Buffer.from(header), Buffer.from(bytes), Buffer.from(bytes.length % 2 === 1 ? "\n" : "")];
}
