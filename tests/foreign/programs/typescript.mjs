// One conversation of a host with a mesh, by a client of the TypeScript SDK. Prints what it saw as one JSON object.
//
//   node typescript.mjs PACKAGE MODE TARGET [QUESTION...]
//
// PACKAGE is "sdk" (@modelcontextprotocol/sdk, the handshake of 2025-11-25 and before) or "client" (its successor for
// 2026-07-28); MODE is the successor's: legacy, auto or modern. TARGET is an address, or the JSON of
// {command, args, env} for a server to start.
import { createRequire } from "node:module";
import { join } from "node:path";

const [which, mode, target, ...questions] = process.argv.slice(2);
// An import is looked up beside this file; the packages are installed elsewhere.
const load = createRequire(join(process.env.AGENTMESH_NPM, "index.js"));
const root = which === "sdk" ? "@modelcontextprotocol/sdk/client" : "@modelcontextprotocol/client";
const { Client } = load(which === "sdk" ? `${root}/index.js` : root);
const { StdioClientTransport } = load(which === "sdk" ? `${root}/stdio.js` : `${root}/stdio`);
const { StreamableHTTPClientTransport } = load(which === "sdk" ? `${root}/streamableHttp.js` : root);

const negotiation = mode === "modern" ? { mode: { pin: "2026-07-28" } } : { mode };
const options = which === "sdk" ? {} : { versionNegotiation: negotiation };
const client = new Client({ name: "foreign", version: "1.0.0" }, { capabilities: {}, ...options });
const transport = target.startsWith("http")
  ? new StreamableHTTPClientTransport(new URL(target))
  : new StdioClientTransport(JSON.parse(target));
// The older package tells the version that was agreed on to its transport only.
let agreed = null;
const tell = transport.setProtocolVersion?.bind(transport);
transport.setProtocolVersion = (version) => {
  agreed = version;
  tell?.(version);
};
await client.connect(transport);
const progress = [];
const answers = [];
const tools = (await client.listTools()).tools;
for (const question of questions) {
  const call = { name: "ask_front", arguments: { question } };
  const watched = { onprogress: (each) => progress.push(each.progress) };
  answers.push(await (which === "sdk" ? client.callTool(call, undefined, watched) : client.callTool(call, watched)));
}
const refused = await client.callTool({ name: "ask_front", arguments: {} });
const resources = (await client.listResources()).resources;
const templates = (await client.listResourceTemplates()).resourceTemplates;
const read = await client.readResource({ uri: "ledger://checkpoint" });
const prompts = (await client.listPrompts()).prompts;
const prompt = await client.getPrompt({ name: "sum", arguments: { a: "2", b: "3" } });
const seen = {
  protocol: client.getNegotiatedProtocolVersion?.() ?? agreed,
  server: client.getServerVersion()?.name,
  tools: tools.map((each) => each.name),
  answers: answers.map((each) => ({
    text: each.content.map((part) => part.text).join(""),
    structured: each.structuredContent,
    error: each.isError ?? false,
  })),
  refused: refused.isError ?? false,
  progress,
  resources: resources.map((each) => each.uri),
  templates: templates.map((each) => each.uriTemplate),
  checkpoint: read.contents[0].text,
  prompts: prompts.map((each) => each.name),
  prompt: prompt.messages[0].content.text,
};
await client.close();
console.log(JSON.stringify(seen));
