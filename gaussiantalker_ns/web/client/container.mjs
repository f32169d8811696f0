/** Reading a packed talker: header, numbers and pictures; gaussiantalker_ns/web/pack.py writes it. */

const MAGIC = "GTWEB001";

/** A packed talker: `header`, `tensor(name)` as float32, `part(name)` as bytes. */
export class PackedTalker {
  constructor(header, parts, numbers) {
    this.header = header;
    this.parts = parts;
    this.numbers = numbers;
  }

  /** Read the bytes of a packed talker. */
  static async read(buffer) {
    const { header, parts } = readHeader(buffer);
    const packed = part(header, parts, "tensors");
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new PackedTalker(header, parts, await new Response(stream).arrayBuffer());
  }

  part(name) {
    return part(this.header, this.parts, name);
  }

  has(name) {
    return Object.hasOwn(this.header.tensors, name);
  }

  shape(name) {
    return this.entry(name).shape;
  }

  entry(name) {
    if (!this.has(name)) throw new Error(`The packed talker lacks ${name}; export it again.`);
    return this.header.tensors[name];
  }

  tensor(name) {
    const { shape, kind, at } = this.entry(name);
    const count = shape.reduce((a, b) => a * b, 1);
    return DECODERS[kind](this.numbers, at, count, shape[shape.length - 1]);
  }
}

/** Header of a packed talker, and the bytes behind it. */
export function readHeader(buffer) {
  const bytes = new Uint8Array(buffer);
  const magic = new TextDecoder().decode(bytes.subarray(0, MAGIC.length));
  const start = MAGIC.length + 4;
  if (magic !== MAGIC || bytes.length < start) {
    throw new Error(
      "This is no packed talker of this version; expected what `gaussiantalker export --format" +
        " folder` writes. Export it again, with the run-time beside it."
    );
  }
  const length = new DataView(buffer).getUint32(MAGIC.length, true);
  const header = JSON.parse(new TextDecoder().decode(bytes.subarray(start, start + length)));
  return { header, parts: bytes.subarray(start + length) };
}

function part(header, parts, name) {
  const [first, length] = header.parts[name] ?? [0, -1];
  if (length < 0 || first + length > parts.length) {
    throw new Error(`The packed talker was cut: ${name} is missing; load or export it again.`);
  }
  return parts.subarray(first, first + length);
}

/** Rows of a column that share a factor. */
const GROUP = 128;

const DECODERS = {
  f32: (buffer, at, count) => new Float32Array(buffer.slice(at, at + 4 * count)),
  f16: (buffer, at, count) => {
    const table = halfTable();
    return Float32Array.from(new Uint16Array(buffer, at, count), (bits) => table[bits]);
  },
  i8: (buffer, at, count, columns) => {
    const groups = Math.ceil(count / columns / GROUP);
    const table = halfTable();
    const factors = new Uint16Array(buffer, at, groups * columns);
    const numbers = new Int8Array(buffer, at + 4 * Math.ceil((groups * columns) / 2), count);
    const values = new Float32Array(count);
    for (let row = 0; row * columns < count; row++) {
      const group = Math.floor(row / GROUP) * columns;
      for (let k = 0; k < columns; k++) {
        values[row * columns + k] = numbers[row * columns + k] * table[factors[group + k]];
      }
    }
    return values;
  },
  u16: (buffer, at, count, columns) => {
    const range = new Float32Array(buffer, at, 2 * columns);
    const steps = new Uint16Array(buffer, at + 8 * columns, count);
    return Float32Array.from(steps, (step, i) => {
      const [low, high] = [range[i % columns], range[columns + (i % columns)]];
      return low + (step / 65535) * (high - low);
    });
  },
};

let halves = null;

/** All numbers of sixteen bits as float32. */
function halfTable() {
  if (halves) return halves;
  halves = new Float32Array(65536);
  for (let bits = 0; bits < 65536; bits++) {
    const exponent = (bits >> 10) & 31;
    const fraction = (bits & 1023) / 1024;
    let value = exponent ? 2 ** (exponent - 15) * (1 + fraction) : 2 ** -14 * fraction;
    if (exponent === 31) value = fraction ? NaN : Infinity;
    halves[bits] = bits & 0x8000 ? -value : value;
  }
  return halves;
}
