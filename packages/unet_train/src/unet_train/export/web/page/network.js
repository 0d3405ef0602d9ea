// The network, run by ONNX Runtime: on the graphics processor where there is one, else
// in WebAssembly.

/**
 * Fetches runtime and network.
 *
 * @param settings Of the page.
 * @param wanted "webgpu" or "wasm", or null for the better of those there are.
 * @param progress Called with the bytes that have come, and with all there are.
 * @returns {Promise<{device: string, forward: Function}>}
 */
export async function loadNetwork(settings, wanted, progress) {
  const device = wanted ?? ((await hasGraphics()) ? "webgpu" : "wasm");
  try {
    return await start(settings, device, progress);
  } catch (error) {
    if (device === "wasm") throw error;
    return start(settings, "wasm", progress);
  }
}

/** Whether there is a graphics processor, and not a program that imitates one. */
async function hasGraphics() {
  if (!navigator.gpu || !("Suspending" in WebAssembly)) return false;
  const adapter = await navigator.gpu.requestAdapter().catch(() => null);
  const { isFallbackAdapter, architecture } = adapter?.info ?? {};
  return Boolean(adapter) && !isFallbackAdapter && architecture !== "swiftshader";
}

async function start(settings, device, progress) {
  const { program, binary } = settings.runtime[device];
  const files = [binary, settings.model];
  const total = files.reduce((sum, { bytes }) => sum + bytes, 0);
  let loaded = 0;
  const count = (bytes) => progress((loaded += bytes), total);
  const [ort, wasm, model] = await Promise.all([
    import(`./runtime/${program}`),
    fetchAll(`runtime/${binary.file}`, count),
    fetchAll(settings.model.file, count),
  ]);
  ort.env.wasm.wasmBinary = wasm;
  ort.env.logLevel = "error";
  // More than one thread only where the server isolates the page.
  const processors = Math.min(navigator.hardwareConcurrency ?? 1, 8);
  ort.env.wasm.numThreads = self.crossOriginIsolated ? processors : 1;
  const options = { executionProviders: [device], logSeverityLevel: 3 };
  const session = await ort.InferenceSession.create(new Uint8Array(model), options);
  const forward = async (pixels, height, width) => {
    const image = new ort.Tensor("float32", pixels, [1, height, width, 3]);
    const { logits } = await session.run({ image });
    const data = logits.data.slice();
    logits.dispose();
    return data;
  };
  if (device === "webgpu") {
    // What it cannot do shows here, and not when a photo waits.
    const { smallest } = settings;
    await forward(new Float32Array(smallest * smallest * 3), smallest, smallest);
  }
  return { device, forward };
}

async function fetchAll(url, count) {
  const answer = await fetch(url);
  if (!answer.ok) throw new Error(`${url} is not there: ${answer.status}`);
  const parts = [];
  for (const reader = answer.body.getReader(); ; ) {
    const { done, value } = await reader.read();
    if (done) return new Blob(parts).arrayBuffer();
    parts.push(value);
    count(value.length);
  }
}
