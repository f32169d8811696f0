/** Splats over background and torso: by WebGL2, or by the kernels without a GPU. */

const SPLAT_BYTES = 48;
const SOFTWARE = /swiftshader|llvmpipe|softpipe|basic render|software/i;

const SPLAT_VERTEX = `
layout(location = 0) in vec4 place;
layout(location = 1) in vec4 shape;
layout(location = 2) in vec4 paint;
uniform vec2 size;
out vec2 offset;
flat out vec4 conic;
flat out vec3 colour;
void main() {
  vec2 corner = vec2(gl_VertexID & 1, gl_VertexID >> 1) * 2. - 1.;
  offset = corner * (place.zw + 1.);
  conic = shape;
  colour = paint.rgb;
  vec2 p = (place.xy + offset) / size * 2. - 1.;
  gl_Position = vec4(p.x, -p.y, 0., 1.);
}`;

const SPLAT_FRAGMENT = `
in vec2 offset;
flat in vec4 conic;
flat in vec3 colour;
out vec4 painted;
void main() {
  vec2 d = offset;
  float s = .5 * (conic.x * d.x * d.x + conic.z * d.y * d.y) + conic.y * d.x * d.y;
  float alpha = min(.999, conic.w * exp(-s));
  if (alpha < 1. / 255.) discard;
  painted = vec4(colour * alpha, alpha);
}`;

const PICTURE_VERTEX = `
out vec2 uv;
void main() {
  uv = vec2(gl_VertexID & 1, gl_VertexID >> 1);
  gl_Position = vec4(uv * 2. - 1., 0., 1.);
}`;

// The torso's last row is the picture's last one; bands of its alpha are straight.
const PICTURE_FRAGMENT = `
in vec2 uv;
uniform sampler2D head, background, torso, mark;
uniform float torsoHeight;
uniform vec4 markBox;
out vec4 painted;
void main() {
  vec3 behind = texture(background, vec2(uv.x, 1. - uv.y)).rgb;
  if (uv.y < torsoHeight) {
    vec4 layer = texture(torso, vec2(uv.x, 1. - uv.y / torsoHeight));
    behind = mix(behind, layer.rgb, layer.a);
  }
  vec4 front = texelFetch(head, ivec2(gl_FragCoord.xy), 0);
  vec3 colour = clamp(front.rgb + (1. - front.a) * behind, 0., 1.);
  vec2 m = (uv - markBox.xy) / markBox.zw;
  if (all(greaterThanEqual(m, vec2(0.))) && all(lessThan(m, vec2(1.)))) {
    vec4 label = texture(mark, vec2(m.x, 1. - m.y));
    colour = mix(colour, label.rgb, label.a);
  }
  painted = vec4(colour, 1.);
}`;

/** Whether WebGL2 with targets of sixteen bits is there, and by a GPU. */
export function hasGpu(allowSoftware) {
  const gl = new OffscreenCanvas(1, 1).getContext("webgl2");
  if (!gl || !halfFloats(gl)) return false;
  const info = gl.getExtension("WEBGL_debug_renderer_info");
  const name = gl.getParameter(info ? info.UNMASKED_RENDERER_WEBGL : gl.RENDERER);
  gl.getExtension("WEBGL_lose_context")?.loseContext();
  return allowSoftware || !SOFTWARE.test(String(name));
}

const halfFloats = (gl) =>
  gl.getExtension("EXT_color_buffer_float") || gl.getExtension("EXT_color_buffer_half_float");

/** Paints with WebGL2: instanced quads, nearest first, into a target of sixteen bits. */
export class GpuPainter {
  constructor(canvas, count) {
    this.name = "webgl2";
    this.canvas = canvas;
    this.count = count;
    canvas.addEventListener("webglcontextlost", (event) => event.preventDefault());
    canvas.addEventListener("webglcontextrestored", () => this.prepare());
    this.gl = canvas.getContext("webgl2", { antialias: false, alpha: false });
    this.prepare();
  }

  prepare() {
    const { gl, canvas, count } = this;
    halfFloats(gl);
    this.splat = program(gl, SPLAT_VERTEX, SPLAT_FRAGMENT);
    this.picture = program(gl, PICTURE_VERTEX, PICTURE_FRAGMENT);
    this.empty = gl.createVertexArray();
    this.quads = gl.createVertexArray();
    this.buffer = gl.createBuffer();
    gl.bindVertexArray(this.quads);
    gl.bindBuffer(gl.ARRAY_BUFFER, this.buffer);
    gl.bufferData(gl.ARRAY_BUFFER, count * SPLAT_BYTES, gl.DYNAMIC_DRAW);
    for (let k = 0; k < 3; k++) {
      gl.enableVertexAttribArray(k);
      gl.vertexAttribPointer(k, 4, gl.FLOAT, false, SPLAT_BYTES, 16 * k);
      gl.vertexAttribDivisor(k, 1);
    }
    this.head = texture(gl, gl.NEAREST);
    gl.texStorage2D(gl.TEXTURE_2D, 1, gl.RGBA16F, canvas.width, canvas.height);
    this.target = gl.createFramebuffer();
    gl.bindFramebuffer(gl.FRAMEBUFFER, this.target);
    gl.framebufferTexture2D(
      gl.FRAMEBUFFER, gl.COLOR_ATTACHMENT0, gl.TEXTURE_2D, this.head, 0
    );
    gl.pixelStorei(gl.UNPACK_COLORSPACE_CONVERSION_WEBGL, gl.NONE);
    gl.pixelStorei(gl.UNPACK_PREMULTIPLY_ALPHA_WEBGL, false);
    this.torso = texture(gl, gl.LINEAR);
    this.background = this.mark = null;
    this.torsoHeight = 0;
    if (this.shown) this.show(this.shown);
  }

  /** Keep the pictures that do not change; `mark` is laid into the lower left corner. */
  show(shown) {
    const { gl } = this;
    this.shown = shown;
    this.background = texture(gl, gl.LINEAR, shown.background);
    this.mark = texture(gl, gl.LINEAR, shown.mark);
  }

  /** @returns {boolean} false where the context is lost for now. */
  paint(kernels, splats, count, torso) {
    const { gl, canvas } = this;
    if (gl.isContextLost()) return false;
    gl.viewport(0, 0, canvas.width, canvas.height);
    gl.bindFramebuffer(gl.FRAMEBUFFER, this.target);
    gl.clearColor(0, 0, 0, 0);
    gl.clear(gl.COLOR_BUFFER_BIT);
    gl.bindVertexArray(this.quads);
    gl.bindBuffer(gl.ARRAY_BUFFER, this.buffer);
    gl.bufferSubData(gl.ARRAY_BUFFER, 0, kernels.view(splats, (count * SPLAT_BYTES) / 4));
    gl.enable(gl.BLEND);
    // Nearest first: what is there already covers what comes.
    gl.blendFunc(gl.ONE_MINUS_DST_ALPHA, gl.ONE);
    gl.useProgram(this.splat);
    gl.uniform2f(gl.getUniformLocation(this.splat, "size"), canvas.width, canvas.height);
    gl.drawArraysInstanced(gl.TRIANGLE_STRIP, 0, 4, count);
    gl.disable(gl.BLEND);
    this.compose(torso);
    return true;
  }

  compose(torso) {
    const { gl, canvas, picture } = this;
    gl.bindFramebuffer(gl.FRAMEBUFFER, null);
    gl.bindVertexArray(this.empty);
    gl.useProgram(picture);
    if (torso) {
      gl.bindTexture(gl.TEXTURE_2D, this.torso);
      gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA, gl.RGBA, gl.UNSIGNED_BYTE, torso);
      this.torsoHeight = torso.height / torso.width;
    }
    const { mark } = this.shown;
    const uniform = (name) => gl.getUniformLocation(picture, name);
    gl.uniform1f(uniform("torsoHeight"), this.torsoHeight);
    const box = mark ? [0, 0, mark.width / canvas.width, mark.height / canvas.height] : [2, 2, 1, 1];
    gl.uniform4f(uniform("markBox"), ...box);
    const textures = { head: this.head, background: this.background, torso: this.torso, mark: this.mark };
    Object.entries(textures).forEach(([name, bound], unit) => {
      gl.activeTexture(gl.TEXTURE0 + unit);
      gl.bindTexture(gl.TEXTURE_2D, bound);
      gl.uniform1i(uniform(name), unit);
    });
    gl.activeTexture(gl.TEXTURE0);
    gl.drawArrays(gl.TRIANGLE_STRIP, 0, 4);
  }

  /** The picture that was painted last, RGBA from the upper left; call it right after `paint`. */
  pixels() {
    const { gl, canvas } = this;
    const { width, height } = canvas;
    const rows = new Uint8Array(4 * width * height);
    gl.readPixels(0, 0, width, height, gl.RGBA, gl.UNSIGNED_BYTE, rows);
    const picture = new Uint8ClampedArray(rows.length);
    for (let y = 0; y < height; y++) {
      const from = 4 * width * (height - 1 - y);
      picture.set(rows.subarray(from, from + 4 * width), 4 * width * y);
    }
    return picture;
  }
}

function texture(gl, filter, picture = null) {
  const found = gl.createTexture();
  gl.bindTexture(gl.TEXTURE_2D, found);
  for (const name of [gl.TEXTURE_MIN_FILTER, gl.TEXTURE_MAG_FILTER]) {
    gl.texParameteri(gl.TEXTURE_2D, name, filter);
  }
  for (const name of [gl.TEXTURE_WRAP_S, gl.TEXTURE_WRAP_T]) {
    gl.texParameteri(gl.TEXTURE_2D, name, gl.CLAMP_TO_EDGE);
  }
  if (picture) gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA, gl.RGBA, gl.UNSIGNED_BYTE, picture);
  return found;
}

function program(gl, vertex, fragment) {
  const made = gl.createProgram();
  for (const [kind, source] of [[gl.VERTEX_SHADER, vertex], [gl.FRAGMENT_SHADER, fragment]]) {
    const shader = gl.createShader(kind);
    gl.shaderSource(shader, `#version 300 es\nprecision highp float;\n${source}`);
    gl.compileShader(shader);
    gl.attachShader(made, shader);
  }
  gl.linkProgram(made);
  if (!gl.getProgramParameter(made, gl.LINK_STATUS) && !gl.isContextLost()) {
    throw new Error(`WebGL2 refused a shader: ${gl.getProgramInfoLog(made)}`);
  }
  return made;
}

/** Paints with the kernels; the picture goes through a 2D canvas. */
export class CpuPainter {
  constructor(canvas, kernels) {
    this.name = "wasm";
    this.size = canvas.width;
    this.context = canvas.getContext("2d", { alpha: false });
    this.under = new OffscreenCanvas(this.size, this.size).getContext("2d", {
      willReadFrequently: true, alpha: false,
    });
    const bytes = 4 * this.size * this.size;
    this.behind = kernels.bytes(bytes);
    this.picture = kernels.bytes(bytes);
    this.scratch = kernels.floats(kernels.call.raster_scratch(this.size, this.size));
  }

  show(shown) {
    this.shown = shown;
  }

  paint(kernels, splats, count, torso) {
    const { size } = this;
    this.lay(kernels, torso);
    kernels.call.raster(count, splats, size, size, this.behind, this.scratch, this.picture);
    const done = new Uint8ClampedArray(kernels.call.memory.buffer, this.picture, 4 * size * size);
    this.context.putImageData(new ImageData(done, size, size), 0, 0);
    const { mark } = this.shown;
    if (mark) this.context.drawImage(mark, 0, size - mark.height);
    return true;
  }

  /** Put background and torso where the kernels read them; above the torso nothing changes. */
  lay(kernels, torso) {
    const { size, under } = this;
    const height = torso ? (torso.height / torso.width) * size : 0;
    const top = Math.floor(size - height);
    const first = this.clean === undefined ? 0 : Math.min(top, this.clean);
    this.clean = top;
    if (first === size) return;
    under.save();
    under.beginPath();
    under.rect(0, first, size, size - first);
    under.clip();
    under.drawImage(this.shown.background, 0, 0, size, size);
    if (torso) under.drawImage(torso, 0, size - height, size, height);
    under.restore();
    const { data } = under.getImageData(0, first, size, size - first);
    const to = this.behind + 4 * size * first;
    new Uint8Array(kernels.call.memory.buffer, to, data.length).set(data);
  }

  pixels() {
    return this.context.getImageData(0, 0, this.size, this.size).data;
  }
}
