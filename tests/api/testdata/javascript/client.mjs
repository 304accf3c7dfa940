// What people do with @kubernetes/client-node, told line by line for the test that runs this:
// node client.mjs CLIENT NAMESPACE, where CLIENT is the entry of the package.
import { pathToFileURL } from "node:url";
import { PassThrough, Readable } from "node:stream";
import net from "node:net";

const [entry, namespace] = process.argv.slice(2);
const k8s = await import(pathToFileURL(entry));
const config = new k8s.KubeConfig();
config.loadFromDefault();
const core = config.makeApiClient(k8s.CoreV1Api);
const apps = config.makeApiClient(k8s.AppsV1Api);

function say(what, value) {
  console.log(JSON.stringify({ [what]: value }));
}

async function text(stream) {
  let said = "";
  for await (const chunk of stream) said += chunk;
  return said;
}

// Objects.
await core.createNamespacedConfigMap({ namespace, body: { metadata: { name: "one" }, data: { a: "b" } } });
const patch = [{ op: "add", path: "/data/c", value: "d" }];
const patched = await core.patchNamespacedConfigMap({ name: "one", namespace, body: patch });
say("patched", patched.data);
try {
  await core.readNamespacedConfigMap({ name: "nothing", namespace });
} catch (error) {
  say("refused", error.code);
}

// A watch by hand, and an informer.
const path = `/api/v1/namespaces/${namespace}/configmaps`;
const seen = await new Promise((resolve, reject) => {
  const watch = new k8s.Watch(config);
  const done = (error) => error && reject(error);
  const heard = (type, object) => object.metadata.name === "one" && resolve(`${type} ${object.metadata.name}`);
  watch.watch(path, {}, heard, done).then((request) => setTimeout(() => request.abort(), 30000).unref());
});
say("watched", seen);
const informer = k8s.makeInformer(config, path, () => core.listNamespacedConfigMap({ namespace }));
const added = new Promise((resolve) => {
  informer.on("add", (object) => object.metadata.name === "two" && resolve(object.metadata.name));
});
await informer.start();
await core.createNamespacedConfigMap({ namespace, body: { metadata: { name: "two" } } });
say("informed", await added);
await informer.stop();

// Whole manifests, as an apply from the client's side and from the server's.
const objects = k8s.KubernetesObjectApi.makeApiClient(config);
const spec = {
  replicas: 1,
  selector: { matchLabels: { app: "web" } },
  template: { metadata: { labels: { app: "web" } }, spec: { containers: [{ name: "web", image: "web:1" }] } },
};
const deployment = { apiVersion: "apps/v1", kind: "Deployment", metadata: { name: "web", namespace }, spec };
await objects.create(deployment);
const applied = await objects.patch(
  { ...deployment, spec: { ...spec, replicas: 2 } }, undefined, undefined, "tests", true,
  k8s.PatchStrategy.ServerSideApply,
);
say("applied", applied.spec.replicas);
const scale = await apps.readNamespacedDeploymentScale({ name: "web", namespace });
say("scale", scale.spec.replicas);

// Streams of a pod that the test has started.
const log = new PassThrough();
await new k8s.Log(config).log(namespace, "p", "p", log, { tailLines: 1 });
say("log", await text(log));
const out = new PassThrough();
const status = await new Promise((resolve, reject) => {
  const exec = new k8s.Exec(config);
  exec.exec(namespace, "p", "p", ["cat"], out, null, Readable.from(["typed"]), false, resolve).catch(reject);
});
out.end();
say("exec", [status.status, await text(out)]);
const failed = await new Promise((resolve, reject) => {
  const exec = new k8s.Exec(config);
  exec.exec(namespace, "p", "p", ["fail", "7"], new PassThrough(), null, null, false, resolve).catch(reject);
});
say("failed", failed.details.causes[0].message);
const forward = new k8s.PortForward(config);
const server = net.createServer((socket) => forward.portForward(namespace, "p", [7000], socket, null, socket));
await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
const answer = await new Promise((resolve, reject) => {
  const socket = net.connect(server.address().port, "127.0.0.1", () => socket.write("quiet"));
  socket.on("data", (data) => { resolve(data.toString()); socket.destroy(); });
  socket.on("error", reject);
});
say("forwarded", answer);
server.close();
process.exit(0);
