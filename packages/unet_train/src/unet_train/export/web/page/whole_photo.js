// What `Predictor` does with a photo's pixels, as `whole_photo.py` has it, number by
// number: a canvas would scale in its own way.

const f32 = Math.fround;

/**
 * Probabilities of foreground at the sizes that the network sees.
 *
 * @param photo {data: Uint8ClampedArray RGBA, width, height}
 * @param settings `sizes`, and the geometry: `step`, `margin`, `seam`, `smallest`,
 *   `largestTile`.
 * @param forward Float32Array [1, H, W, 3], H, W -> Promise of logits [1, H', W', 1].
 * @param progress Called with the share that is done.
 * @returns {Promise<Array>} One {data: Float32Array, width, height} a size.
 */
export async function findAll(photo, settings, forward, progress = () => {}) {
  const sizes = settings.sizes.length ? settings.sizes : [null];
  const maps = [];
  for (const [index, longerSide] of sizes.entries()) {
    const scaled = scale(photo, longerSide);
    const logits = await inTiles(scaled, settings, forward, (share) =>
      progress((index + share) / sizes.length),
    );
    const { width, height } = scaled;
    maps.push({ data: logits.map((value) => 1 / (1 + Math.exp(-value))), width, height });
  }
  return maps;
}

/** Makes row after row of the mean of all maps at another size. */
export class Enlarged {
  constructor(maps, width, height) {
    this.maps = maps.map((map) => ({
      ...map,
      rows: neighbours(map.height, height),
      columns: neighbours(map.width, width),
    }));
    this.width = width;
    this.height = height;
    this.total = new Float32Array(width);
  }

  /** Probabilities of a row; the array is used again for the next. */
  row(y) {
    const { total, maps } = this;
    total.fill(0);
    for (const { data, width, rows, columns } of maps) {
      const top = rows.lower[y] * width;
      const bottom = rows.upper[y] * width;
      const down = rows.share[y];
      for (let x = 0; x < total.length; x++) {
        const left = columns.lower[x];
        const right = columns.upper[x];
        const along = columns.share[x];
        const above = between(data[top + left], data[top + right], along);
        const below = between(data[bottom + left], data[bottom + right], along);
        total[x] += between(above, below, down);
      }
    }
    if (maps.length > 1) {
      for (let x = 0; x < total.length; x++) total[x] /= maps.length;
    }
    return total;
  }

  /** All rows, Float32Array [height, width]. */
  all() {
    const found = new Float32Array(this.width * this.height);
    for (let y = 0; y < this.height; y++) found.set(this.row(y), y * this.width);
    return found;
  }
}

function between(first, second, share) {
  return f32(first + f32(f32(second - first) * share));
}

/** Which two pixels a pixel lies between, and how far from the first. */
function neighbours(size, result) {
  const scale = f32(size / result);
  const lower = new Int32Array(result);
  const upper = new Int32Array(result);
  const share = new Float32Array(result);
  for (let index = 0; index < result; index++) {
    const place = f32(f32(f32(index + 0.5) * scale) - 0.5);
    lower[index] = Math.max(Math.floor(place), 0);
    upper[index] = Math.min(Math.ceil(place), size - 1);
    share[index] = place - Math.floor(place);
  }
  return { lower, upper, share };
}

/** RGBA to RGB, its longer side scaled to a number of pixels or left (null). */
export function scale(photo, longerSide) {
  const { width, height } = photo;
  if (longerSide === null) return { data: withoutAlpha(photo.data), width, height };
  const factor = f32(longerSide / Math.max(width, height));
  const scaled = (size) => Math.max(halfToEven(f32(size * factor)), 1);
  return resize(photo, scaled(width), scaled(height));
}

function withoutAlpha(rgba) {
  const rgb = new Uint8Array((rgba.length / 4) * 3);
  for (let from = 0, to = 0; from < rgba.length; from += 4) {
    rgb[to++] = rgba[from];
    rgb[to++] = rgba[from + 1];
    rgb[to++] = rgba[from + 2];
  }
  return rgb;
}

/** Resizes with a triangle kernel, antialiased: `tf.image.resize(antialias=True)`. */
function resize(photo, width, height) {
  const rows = spans(photo.height, height);
  const columns = spans(photo.width, width);
  const band = new Float32Array(photo.width * 3);
  const data = new Uint8Array(width * height * 3);
  const stride = photo.width * 4;
  for (let y = 0; y < height; y++) {
    band.fill(0);
    for (let tap = 0; tap < rows[y].weights.length; tap++) {
      const weight = rows[y].weights[tap];
      let from = (rows[y].start + tap) * stride;
      for (let to = 0; to < band.length; from += 4) {
        band[to++] += f32(weight * photo.data[from]);
        band[to++] += f32(weight * photo.data[from + 1]);
        band[to++] += f32(weight * photo.data[from + 2]);
      }
    }
    for (let x = 0; x < width; x++) {
      const { start, weights } = columns[x];
      for (let channel = 0; channel < 3; channel++) {
        let sum = 0;
        for (let tap = 0; tap < weights.length; tap++) {
          sum = f32(sum + f32(weights[tap] * band[(start + tap) * 3 + channel]));
        }
        const level = Math.min(Math.max(sum, 0), 255);
        data[(y * width + x) * 3 + channel] = halfToEven(level);
      }
    }
  }
  return { data, width, height };
}

/** For each pixel of the result: the first of those it is made of, and their weights. */
function spans(size, result) {
  const inverse = f32(1 / f32(result / size));
  const reach = Math.max(inverse, 1);
  const narrow = f32(1 / reach);
  return Array.from({ length: result }, (_, index) => {
    const middle = f32(f32(index + 0.5) * inverse);
    const first = Math.ceil(f32(f32(middle - reach) - 0.5));
    const last = Math.floor(f32(f32(middle + reach) - 0.5));
    const start = Math.min(Math.max(first, 0), size - 1);
    const end = Math.min(Math.max(last, 0), size - 1);
    const weights = new Float32Array(end - start + 1);
    let total = 0;
    for (let tap = 0; tap < weights.length; tap++) {
      const distance = Math.abs(f32(f32(f32(start + tap + 0.5) - middle) * narrow));
      weights[tap] = distance < 1 ? 1 - distance : 0;
      total = f32(total + weights[tap]);
    }
    const share = f32(1 / total);
    return { start, weights: weights.map((weight) => weight * share) };
  });
}

function halfToEven(value) {
  const floor = Math.floor(value);
  const rest = value - floor;
  if (rest !== 0.5) return floor + (rest > 0.5 ? 1 : 0);
  return floor + (floor % 2);
}

/** Logits of every pixel of an RGB image, in tiles that leave no seams. */
async function inTiles(image, settings, forward, progress) {
  const { width, height } = image;
  const [tileHeight, tileWidth] = tileShape(height, width, settings);
  const rows = spansOfTiles(height, tileHeight, settings);
  const columns = spansOfTiles(width, tileWidth, settings);
  const logits = new Float32Array(width * height);
  let done = 0;
  for (const row of rows) {
    for (const column of columns) {
      const tile = cut(image, row.start, column.start, tileHeight, tileWidth, settings);
      const output = await forward(tile, tileHeight, tileWidth);
      const outputWidth = tileWidth - 2 * settings.margin;
      for (let y = row.first; y < row.end; y++) {
        const from = (y - row.start) * outputWidth - column.start;
        const used = output.subarray(from + column.first, from + column.end);
        logits.set(used, y * width + column.first);
      }
      progress(++done / (rows.length * columns.length));
    }
  }
  return logits;
}

/** The input of a tile, mirrored where it reaches beyond the image. */
function cut(image, top, left, tileHeight, tileWidth, { margin }) {
  const tile = new Float32Array(tileHeight * tileWidth * 3);
  const columns = Array.from({ length: tileWidth }, (_, x) =>
    mirrored(left - margin + x, image.width),
  );
  let to = 0;
  for (let y = 0; y < tileHeight; y++) {
    const row = mirrored(top - margin + y, image.height) * image.width;
    for (const column of columns) {
      const from = (row + column) * 3;
      tile[to++] = image.data[from];
      tile[to++] = image.data[from + 1];
      tile[to++] = image.data[from + 2];
    }
  }
  return tile;
}

/** Where a coordinate falls in an axis that is mirrored without end. */
export function mirrored(index, size) {
  const period = Math.max(2 * (size - 1), 1);
  const within = ((index % period) + period) % period;
  return Math.min(within, period - within);
}

/** Height and width of the tiles for an image. */
function tileShape(height, width, settings) {
  const whole = [height, width].map((size) => tileForOutput(size, settings));
  const { largestTile } = settings;
  if (largestTile === null || whole[0] * whole[1] <= largestTile ** 2) return whole;
  return [height, width].map((size, axis) => evenTile(size, whole[axis], settings));
}

/** The shortest tile that needs no more passes than the largest would. */
function evenTile(size, whole, settings) {
  const { step, seam, largestTile } = settings;
  if (whole <= largestTile) return whole;
  const used = Math.floor((largestTile - border(settings)) / step) * step;
  const count = Math.ceil(size / used);
  const needed = roundUp(size, count * step) / count;
  return Math.min(tileForOutput(needed + 2 * seam, settings), whole);
}

/** What of a tile's input has no part in the output used, both sides. */
function border({ margin, seam }) {
  return 2 * (margin + seam);
}

/** The smallest valid side whose output has at least `size` pixels. */
function tileForOutput(size, { smallest, margin, step }) {
  return smallest + roundUp(Math.max(size + 2 * margin - smallest, 0), step);
}

/** The tiles along one axis: where the output starts; first and end of what is used. */
export function spansOfTiles(size, tile, settings) {
  const { step, seam, margin } = settings;
  const last = tileForOutput(size, settings) - tile;
  const given = tile - 2 * margin - seam;
  const used = Math.max(Math.floor((tile - border(settings)) / step) * step, 1);
  const furthest = Math.max(Math.min(last, size - given), 0);
  const found = [];
  for (let index = 0; index <= Math.ceil(furthest / used); index++) {
    const start = Math.min(index * used, last);
    const end = start === last ? size : Math.min(start + given, size);
    found.push({ start, first: found.at(-1)?.end ?? 0, end });
  }
  return found;
}

function roundUp(value, multiple) {
  return Math.ceil(value / multiple) * multiple;
}
