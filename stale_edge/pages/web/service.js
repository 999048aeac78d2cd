// Keeps the site for use without a network, isolates its pages, so that threads may share memory, and lets neither pages
// nor workers connect to any other host.
const KEPT = `stale-edge ${registration.scope} `, NAME = KEPT + SITE.version;
const within = (url) => (url.href.startsWith(registration.scope) ? url.pathname.slice(new URL(registration.scope).pathname.length) || "index.html" : null);
const fresh = (file) => new Request(new URL(file, registration.scope), { cache: "no-cache" });

addEventListener("install", (event) => {
  event.waitUntil(caches.open(NAME).then((cache) => cache.addAll(SITE.first.map(fresh))).then(() => skipWaiting()));
});

addEventListener("activate", (event) => {
  const others = (name) => name.startsWith(KEPT) && name !== NAME;
  const clean = async () => Promise.all((await caches.keys()).filter(others).map((name) => caches.delete(name)));
  event.waitUntil(clean().then(() => clients.claim()));
});

addEventListener("fetch", (event) => {
  const file = within(new URL(event.request.url));
  if (event.request.method === "GET" && file !== null && SITE.files.includes(file)) event.respondWith(kept(event, file));
});

async function kept(event, file) {
  const cache = await caches.open(NAME);
  const found = await cache.match(fresh(file).url);
  if (found) return isolated(found);
  const answer = await fetch(fresh(file));
  // A browser out of room keeps nothing; the page works all the same while there is a network.
  if (answer.status === 200) event.waitUntil(cache.put(fresh(file).url, answer.clone()).catch(() => null));
  return isolated(answer);
}

function isolated(answer) {
  const headers = new Headers(answer.headers);
  headers.set("Cross-Origin-Opener-Policy", "same-origin");
  headers.set("Cross-Origin-Embedder-Policy", "require-corp");
  headers.set("Cross-Origin-Resource-Policy", "same-origin");
  headers.set("Content-Security-Policy", "connect-src 'self'");
  return new Response(answer.body, { status: answer.status, statusText: answer.statusText, headers });
}
