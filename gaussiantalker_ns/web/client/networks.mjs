/** Small networks of convolutions and linear layers, over rows of numbers. */

import { ACTIVATIONS, padded } from "./kernels.mjs";

/** Layers in a row, always over the same number of rows. */
export class Sequence {
  /**
   * @param kernels The kernels.
   * @param talker The packed talker, for the weights.
   * @param layers Their description, out of the header.
   * @param numRows Rows of the input.
   */
  constructor(kernels, talker, layers, numRows) {
    this.kernels = kernels;
    this.layers = layers.map((layer) => prepare(kernels, talker, layer));
    let rows = numRows;
    for (const layer of this.layers) {
      // Rows of zeros before and behind are the padding of the convolution.
      layer.input = kernels.floats((rows + 2 * layer.padding) * layer.inStride);
      layer.first = layer.input + 4 * layer.padding * layer.inStride;
      rows = Math.floor((rows + 2 * layer.padding - layer.kernel) / layer.stride) + 1;
      layer.rows = rows;
    }
    const last = this.layers.at(-1);
    this.numRows = numRows;
    this.outRows = rows;
    this.outStride = last.columns;
    this.output = kernels.floats(rows * last.columns);
  }

  /** Run over rows of numbers; returns a pointer to `outRows` rows of `outStride`. */
  run(values, width) {
    const { inStride, first } = this.layers[0];
    const input = this.kernels.view(first, this.numRows * inStride);
    for (let row = 0; row < this.numRows; row++) {
      input.set(values.subarray(row * width, (row + 1) * width), row * inStride);
    }
    this.layers.forEach((layer, index) => {
      const to = index + 1 < this.layers.length ? this.layers[index + 1].first : this.output;
      this.kernels.call.multiply(
        layer.rows, layer.columns, layer.kernel * layer.inStride, layer.input,
        layer.stride * layer.inStride, layer.panels, layer.bias, to, layer.columns,
        layer.activation, 0
      );
    });
    return this.output;
  }

  /** The first numbers of a row of the last output, as a copy. */
  result(count, row = 0) {
    return this.kernels.view(this.output + 4 * row * this.outStride, count).slice();
  }
}

/** Weights in panels, whose input channels are rounded up to whole panels too. */
function prepare(kernels, talker, layer) {
  const [depth, columns] = talker.shape(`${layer.weights}.weight`);
  const weight = talker.tensor(`${layer.weights}.weight`);
  const inputs = depth / layer.kernel;
  const inStride = padded(inputs);
  const spread = new Float32Array(layer.kernel * inStride * columns);
  for (let tap = 0; tap < layer.kernel; tap++) {
    const rows = weight.subarray(tap * inputs * columns, (tap + 1) * inputs * columns);
    spread.set(rows, tap * inStride * columns);
  }
  const bias = `${layer.weights}.bias`;
  return {
    ...layer,
    activation: ACTIVATIONS[layer.activation],
    inStride,
    columns: padded(columns),
    panels: kernels.pack(spread, layer.kernel * inStride, columns),
    bias: talker.has(bias) ? kernels.putRow(talker.tensor(bias)) : 0,
  };
}
