// What was found, drawn over the photo, at the size that it is shown in.

/**
 * Paints one of the views on a canvas.
 *
 * @param canvas To paint on.
 * @param picture The photo, an image that is loaded.
 * @param found {probabilities: Float32Array, shownWidth, shownHeight}
 * @param threshold From which a pixel is foreground.
 * @param view "overlay", "cutout" or "mask".
 * @returns {number} The share of pixels that are foreground.
 */
export function paint(canvas, picture, found, threshold, view) {
  const { probabilities, shownWidth: width, shownHeight: height } = found;
  if (canvas.width !== width || canvas.height !== height) {
    Object.assign(canvas, { width, height });
  }
  const context = canvas.getContext("2d", { willReadFrequently: true });
  const isCutout = view === "cutout";
  if (isCutout) {
    context.clearRect(0, 0, width, height);
    context.drawImage(picture, 0, 0, width, height);
  }
  const layer = isCutout
    ? context.getImageData(0, 0, width, height)
    : new ImageData(width, height);
  const pixels = layer.data;
  const limit = Math.fround(threshold);
  let count = 0;
  for (let index = 0, at = 0; index < probabilities.length; index++, at += 4) {
    const isFound = probabilities[index] >= limit;
    if (isFound) count++;
    if (isCutout) {
      if (!isFound) pixels[at + 3] = 0;
    } else if (view === "mask") {
      pixels[at] = pixels[at + 1] = pixels[at + 2] = isFound ? 255 : 0;
      pixels[at + 3] = 255;
    } else if (isFound) {
      const isEdge =
        probabilities[index - 1] < limit || probabilities[index + 1] < limit ||
        probabilities[index - width] < limit || probabilities[index + width] < limit;
      pixels[at] = 255;
      pixels[at + 1] = isEdge ? 255 : 84;
      pixels[at + 2] = isEdge ? 255 : 30;
      pixels[at + 3] = isEdge ? 240 : 128;
    }
  }
  context.putImageData(layer, 0, 0);
  return count / probabilities.length;
}

/** The share of pixels from a threshold on. */
export function share(probabilities, threshold) {
  const limit = Math.fround(threshold);
  let count = 0;
  for (const probability of probabilities) if (probability >= limit) count++;
  return count / probabilities.length;
}
