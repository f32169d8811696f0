/** The WebAssembly kernels of one talker, and their memory. */

/** Activations by name, as native/matrix.h numbers them. */
export const ACTIVATIONS = { plain: 0, gelu: 1, leaky: 2, relu: 3 };

/** Columns of a panel of weights. */
export const PANEL = 8;

/** A number of columns, rounded up to whole panels. */
export const padded = (columns) => Math.ceil(columns / PANEL) * PANEL;

/** The kernels; `call` has the exported functions, whose arguments are numbers and pointers. */
export class Kernels {
  constructor(instance, isRelaxed) {
    this.call = instance.exports;
    this.isRelaxed = isRelaxed;
  }

  /**
   * Compile the relaxed module where the browser knows it, else the plain one.
   * @param {{plain: BufferSource, relaxed: BufferSource}} modules
   */
  static async start(modules) {
    const isRelaxed = WebAssembly.validate(modules.relaxed);
    if (!isRelaxed && !WebAssembly.validate(modules.plain)) {
      throw new Error(
        "This browser has no WebAssembly with vector instructions; expected one of 2023 or newer" +
          " (Chrome 91, Firefox 89, Safari 16.4). Update it."
      );
    }
    const { instance } = await WebAssembly.instantiate(
      isRelaxed ? modules.relaxed : modules.plain, {}
    );
    return new Kernels(instance, isRelaxed);
  }

  /** Pointer to `count` floats, all zero. */
  floats(count) {
    return this.bytes(4 * count);
  }

  bytes(count) {
    return this.call.allocate(count) >>> 0;
  }

  /** The floats at a pointer; good until something is allocated. */
  view(pointer, count) {
    return new Float32Array(this.call.memory.buffer, pointer, count);
  }

  put(values) {
    const pointer = this.floats(values.length);
    this.view(pointer, values.length).set(values);
    return pointer;
  }

  /** Weights `[depth][columns]` in panels; `scratch` is a pointer to as many floats, or 0. */
  pack(values, depth, columns, scratch = 0) {
    const rows = scratch || this.floats(depth * columns);
    this.view(rows, depth * columns).set(values);
    const panels = this.floats(depth * padded(columns));
    this.call.pack(depth, columns, rows, columns, panels);
    return panels;
  }

  /** A row of numbers, with zeros up to whole panels. */
  putRow(values) {
    const pointer = this.floats(padded(values.length));
    this.view(pointer, values.length).set(values);
    return pointer;
  }
}
