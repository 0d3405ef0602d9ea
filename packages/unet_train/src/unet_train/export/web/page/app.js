// The page: takes photos in, has the worker find, and shows what it found.

import { paint, share } from "./paint.js";

const MOST_PIXELS = 64e6; // Of a photo; beyond, browsers run out of memory.

const element = (id) => document.getElementById(id);
const settings = await (await fetch("settings.json")).json();
const { name } = settings;
const worker = new Worker("worker.js", { type: "module" });
const photos = new Map(); // By number.
let current = null;
let count = 0;

function send(type, rest = {}) {
  worker.postMessage({ type, ...rest });
}

function announce(text) {
  element("status").textContent = text;
}

// What the worker tells.

const answers = {
  loading({ loaded, total }) {
    element("loaded").value = loaded / total;
  },
  ready({ device }) {
    element("loaded").hidden = true;
    document.body.dataset.device = device;
    const where = device === "webgpu" ? "on your graphics processor" : "on your processor";
    announce(`Ready. The network runs ${where}.`);
  },
  step({ id, share: part }) {
    const photo = photos.get(id);
    if (photo) photo.share = part;
    if (photo === current) showBusy();
  },
  found({ id, ...found }) {
    const photo = photos.get(id);
    if (!photo) return;
    photo.found = found;
    photo.thumbnail.classList.remove("waiting");
    if (photo === current) show();
    const part = percent(share(found.probabilities, photo.threshold));
    announce(`${photo.file.name}: ${part} of the photo is ${name}.`);
  },
  saved({ id, kind, blob }) {
    const photo = photos.get(id);
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = `${photo.file.name.replace(/\.[^.]*$/, "")}_${kind}.png`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60e3);
    announce(`Saved ${link.download}.`);
    setSaving(false);
  },
  failed({ of, id, message }) {
    setSaving(false);
    if (of === "load") {
      element("loaded").hidden = true;
      announce("");
      complain(`The network cannot be loaded: ${message}. Reload the page to try again.`);
    } else if (of === "find" && photos.has(id)) {
      const { file } = photos.get(id);
      forget(photos.get(id));
      complain(`${file.name} cannot be read: ${message}`);
    } else {
      complain(`That did not work: ${message}`);
    }
  },
};
worker.onmessage = ({ data: { type, ...rest } }) => answers[type](rest);
worker.onerror = (event) => {
  complain(`The network cannot be run in this browser: ${event.message ?? "no module workers"}.`);
};

// Photos in and out.

async function add(files) {
  for (const file of files) {
    try {
      await addOne(file);
    } catch (error) {
      complain(error.message);
    }
  }
}

async function addOne(file) {
  begin();
  const called = file.name || "The picture";
  if (!file.size) throw new Error(`${called} is empty: 0 bytes. Choose another file.`);
  const url = URL.createObjectURL(file);
  const picture = new Image();
  picture.src = url;
  // Header and size only: it is decoded when it is shown.
  const size = await new Promise((resolve, reject) => {
    picture.onload = () => resolve([picture.naturalWidth, picture.naturalHeight]);
    picture.onerror = () =>
      reject(new Error(`${called} is no picture that this browser can read. Save it as JPEG or PNG.`));
  }).catch((error) => {
    URL.revokeObjectURL(url);
    throw error;
  });
  const [width, height] = size;
  if (width * height > MOST_PIXELS) {
    URL.revokeObjectURL(url);
    const millions = Math.round((width * height) / 1e6);
    throw new Error(
      `${called} has ${millions} megapixels (${width} x ${height}); this page takes up to` +
        ` ${MOST_PIXELS / 1e6}. Scale it down first.`,
    );
  }
  const photo = { id: count++, file, url, width, height, share: 0, threshold: settings.threshold };
  photos.set(photo.id, photo);
  photo.thumbnail = thumbnail(photo);
  element("strip").querySelector("ul").append(photo.thumbnail);
  send("find", { id: photo.id, file });
  select(photo);
}

function thumbnail(photo) {
  const item = document.createElement("li");
  item.className = "waiting";
  const button = document.createElement("button");
  button.type = "button";
  button.setAttribute("aria-label", `Show ${photo.file.name}`);
  const picture = new Image();
  picture.src = photo.url;
  picture.alt = "";
  button.append(picture);
  button.onclick = () => select(photo);
  const remove = document.createElement("button");
  remove.type = "button";
  remove.className = "remove";
  remove.textContent = "×";
  remove.setAttribute("aria-label", `Remove ${photo.file.name}`);
  remove.onclick = () => {
    forget(photo);
    element(photos.size ? "more" : "choose").focus();
  };
  item.append(button, remove);
  return item;
}

function forget(photo) {
  photos.delete(photo.id);
  photo.thumbnail.remove();
  send("forget", { id: photo.id });
  URL.revokeObjectURL(photo.url);
  if (photo === current) select([...photos.values()].at(-1) ?? null);
}

function complain(text) {
  const message = document.createElement("p");
  const close = document.createElement("button");
  close.type = "button";
  close.textContent = "Close";
  close.onclick = () => message.remove();
  message.append(text, close);
  element("messages").append(message);
}

// What is shown.

function select(photo) {
  current = photo;
  element("start").hidden = Boolean(photo);
  element("result").hidden = !photo;
  if (!photo) return;
  for (const each of photos.values()) {
    each.thumbnail.firstChild.setAttribute("aria-current", String(each === photo));
  }
  photo.thumbnail.scrollIntoView({ block: "nearest", inline: "nearest" });
  element("picture").style.setProperty("--aspect", photo.width / photo.height);
  element("before").src = photo.url;
  element("before").alt = `Your photo ${photo.file.name}`;
  element("before").width = photo.width;
  element("before").height = photo.height;
  element("caption").textContent = `${photo.file.name}, ${photo.width} x ${photo.height} pixels`;
  element("threshold").value = photo.threshold;
  show();
}

function showBusy() {
  const isBusy = !current.found;
  element("busy").hidden = !isBusy;
  if (!isBusy) return;
  const isLoading = !document.body.dataset.device;
  const text = isLoading ? "Loading the network…" : `Looking for the ${name}…`;
  element("busy").querySelector("span").textContent = text;
  element("share").value = current.share;
}

function show() {
  showBusy();
  const { found, threshold } = current;
  element("after").hidden = !found;
  element("level").textContent = threshold.toFixed(2);
  for (const button of document.querySelectorAll("[data-save]")) button.disabled = !found;
  element("compare").disabled = !found;
  showSplit();
  if (!found) {
    element("facts").textContent = "";
    return;
  }
  const view = document.querySelector("[name=view]:checked").value;
  const part = percent(paint(element("after"), element("before"), found, threshold, view));
  element("after").className = view;
  element("after").setAttribute("aria-label", `What was found: ${part} of the photo is ${name}`);
  const strong = document.createElement("strong");
  strong.textContent = part;
  const seconds = found.seconds.toFixed(1);
  element("facts").replaceChildren(strong, ` of the photo is ${name}`, document.createElement("br"), `found in ${seconds} s`);
}

function percent(part) {
  return part && part < 0.001 ? "under 0.1%" : `${(100 * part).toFixed(1)}%`;
}

function showSplit() {
  const isOn = element("compare").getAttribute("aria-pressed") === "true" && current.found;
  element("split").hidden = element("divider").hidden = !isOn;
  element("picture").style.setProperty("--from", isOn ? `${element("split").value}%` : "0%");
}

function setSaving(isSaving) {
  for (const button of document.querySelectorAll("[data-save]")) {
    button.disabled = isSaving || !current?.found;
  }
}

// What the visitor does.

let drawing = 0;
element("threshold").oninput = ({ target }) => {
  current.threshold = Number(target.value);
  cancelAnimationFrame(drawing);
  drawing = requestAnimationFrame(show);
};
element("reset").onclick = () => {
  current.threshold = settings.threshold;
  element("threshold").value = settings.threshold;
  show();
};
element("views").onchange = show;
element("split").oninput = showSplit;
element("before").onload = () => current && show();
element("compare").onclick = ({ currentTarget }) => {
  const isOn = currentTarget.getAttribute("aria-pressed") !== "true";
  currentTarget.setAttribute("aria-pressed", String(isOn));
  showSplit();
};
for (const button of document.querySelectorAll("[data-save]")) {
  button.onclick = () => {
    setSaving(true);
    send("save", { id: current.id, kind: button.dataset.save, threshold: current.threshold });
  };
}
for (const id of ["choose", "more"]) element(id).onclick = () => element("files").click();
for (const id of ["files", "capture"]) {
  element(id).onchange = async ({ target }) => {
    await add([...target.files]);
    target.value = "";
  };
}
document.addEventListener("paste", ({ clipboardData }) => add(clipboardData.files));
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.classList.add("dragging");
});
document.addEventListener("dragleave", ({ relatedTarget }) => {
  if (!relatedTarget) document.body.classList.remove("dragging");
});
document.addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("dragging");
  add(event.dataTransfer.files);
});

// A phone's own camera where there is one, else that of the computer.

const video = document.querySelector("video");
element("take").hidden = !matchMedia("(pointer: coarse)").matches && !navigator.mediaDevices;
element("take").onclick = async () => {
  if (matchMedia("(pointer: coarse)").matches) {
    element("capture").click();
    return;
  }
  try {
    video.srcObject = await navigator.mediaDevices.getUserMedia({ video: { width: 1920 } });
    element("camera").showModal();
  } catch (error) {
    complain(`There is no camera to be had: ${error.message}. Choose a photo instead.`);
  }
};
element("close").onclick = () => element("camera").close();
element("camera").onclose = () => {
  for (const track of video.srcObject.getTracks()) track.stop();
};
element("shoot").onclick = async () => {
  const canvas = new OffscreenCanvas(video.videoWidth, video.videoHeight);
  canvas.getContext("2d").drawImage(video, 0, 0);
  const blob = await canvas.convertToBlob({ type: "image/png" });
  element("camera").close();
  add([new File([blob], "camera.png", { type: blob.type })]);
};

// Examples that came with the page; a worker reads no SVG, so a drawn one goes as PNG.

async function pixelsOf(picture) {
  await picture.decode();
  const canvas = new OffscreenCanvas(picture.naturalWidth, picture.naturalHeight);
  canvas.getContext("2d").drawImage(picture, 0, 0);
  return canvas.convertToBlob({ type: "image/png" });
}

for (const { file, title } of settings.examples) {
  const item = document.createElement("li");
  const button = document.createElement("button");
  const picture = new Image();
  button.type = "button";
  picture.src = `examples/${file}`;
  picture.alt = title;
  button.append(picture);
  button.onclick = async () => {
    const isDrawn = file.endsWith(".svg");
    const blob = isDrawn ? await pixelsOf(picture) : await (await fetch(picture.src)).blob();
    add([new File([blob], isDrawn ? file.replace(/svg$/, "png") : file, { type: blob.type })]);
  };
  item.append(button);
  element("examples").querySelector("ul").append(item);
}
element("examples").hidden = !settings.examples.length;

element("unserved").remove();
element("start").hidden = false;

// In a frame of another page it loads when someone turns to it.

let hasBegun = false;
function begin() {
  if (hasBegun) return;
  hasBegun = true;
  element("loaded").hidden = false;
  announce("Loading the network…");
  send("load", { settings, device: new URLSearchParams(location.search).get("device") });
}
if (window.top === window) {
  begin();
} else {
  element("loaded").hidden = true;
  announce("");
  for (const turn of ["pointermove", "focusin", "dragenter"]) {
    document.addEventListener(turn, begin, { once: true });
  }
}
