// Everything that takes time, away from the page: loading, finding, writing pictures.

import { loadNetwork } from "./network.js";
import { Enlarged, findAll } from "./whole_photo.js";

// Of the picture that is shown; what is saved has the photo's own size.
const SHOWN = 1280;
// Rows that are read from a photo at once: a canvas of all of it may be too large.
const STRIP = 512;

const photos = new Map(); // By number: {file, width, height, maps}
let network;

self.onmessage = async ({ data: { type, ...request } }) => {
  try {
    await { load, find, save, forget }[type](request);
  } catch (error) {
    const message = error?.message ?? String(error);
    self.postMessage({ type: "failed", of: type, id: request.id, message });
  }
};

function load({ settings, device }) {
  const progress = (loaded, total) => self.postMessage({ type: "loading", loaded, total });
  network = loadNetwork(settings, device, progress).then((loaded) => {
    self.postMessage({ type: "ready", device: loaded.device });
    return { ...loaded, settings };
  });
  return network;
}

async function find({ id, file }) {
  const { forward, settings, device } = await network;
  const tell = (share) => self.postMessage({ type: "step", id, share });
  tell(0);
  const begin = performance.now();
  const { data, width, height } = await read(file);
  tell(0.1);
  const maps = await findAll({ data, width, height }, settings, forward, (share) =>
    tell(0.1 + 0.85 * share),
  );
  photos.set(id, { file, width, height, maps });
  const factor = Math.min(1, SHOWN / Math.max(width, height));
  const [shownWidth, shownHeight] = [width, height].map((size) =>
    Math.max(1, Math.round(size * factor)),
  );
  const probabilities = new Enlarged(maps, shownWidth, shownHeight).all();
  const seconds = (performance.now() - begin) / 1000;
  self.postMessage(
    { type: "found", id, probabilities, shownWidth, shownHeight, seconds, device },
    [probabilities.buffer],
  );
}

/** The mask or the cut-out of a photo, at its own size, as a PNG. */
async function save({ id, kind, threshold }) {
  const { file, width, height, maps } = photos.get(id);
  const limit = Math.fround(threshold);
  const picture =
    kind === "cutout" ? await read(file) : new ImageData(width, height);
  const enlarged = new Enlarged(maps, width, height);
  for (let y = 0, to = 0; y < height; y++) {
    for (const probability of enlarged.row(y)) {
      const isFound = probability >= limit;
      if (kind === "mask") picture.data.fill(isFound ? 255 : 0, to, to + 3);
      picture.data[to + 3] = kind === "mask" || isFound ? 255 : 0;
      to += 4;
    }
  }
  const canvas = new OffscreenCanvas(width, height);
  canvas.getContext("2d").putImageData(picture, 0, 0);
  const blob = await canvas.convertToBlob({ type: "image/png" });
  self.postMessage({ type: "saved", id, kind, blob });
}

function forget({ id }) {
  photos.delete(id);
}

/** A photo's pixels as they are stored, upright; ImageData. */
async function read(file) {
  const bitmap = await createImageBitmap(file, {
    imageOrientation: "from-image",
    colorSpaceConversion: "none",
    premultiplyAlpha: "none",
  });
  const { width, height } = bitmap;
  const picture = new ImageData(width, height);
  const canvas = new OffscreenCanvas(width, Math.min(height, STRIP));
  const context = canvas.getContext("2d", { willReadFrequently: true });
  for (let y = 0; y < height; y += STRIP) {
    context.clearRect(0, 0, width, canvas.height);
    context.drawImage(bitmap, 0, -y);
    const rows = Math.min(STRIP, height - y);
    picture.data.set(context.getImageData(0, 0, width, rows).data, y * width * 4);
  }
  bitmap.close();
  return picture;
}
