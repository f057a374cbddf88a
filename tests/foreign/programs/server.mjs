// A server of the TypeScript SDK over streamable HTTP, with sessions: one tool, and one that fails. Listens on 127.0.0.1 and
// says where on standard output.
import { randomUUID } from "node:crypto";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { join } from "node:path";

// An import is looked up beside this file; the package is installed elsewhere.
const load = createRequire(join(process.env.AGENTMESH_NPM, "index.js"));
const { Server } = load("@modelcontextprotocol/sdk/server/index.js");
const { StreamableHTTPServerTransport } = load("@modelcontextprotocol/sdk/server/streamableHttp.js");
const { CallToolRequestSchema, ListToolsRequestSchema } = load("@modelcontextprotocol/sdk/types.js");

const text = { type: "object", properties: { text: { type: "string" } }, required: ["text"] };
const readOnly = { readOnlyHint: true };
const tools = [
  { name: "repeat", description: "Repeats a text", inputSchema: text, annotations: readOnly },
  { name: "fail", description: "Fails", inputSchema: { type: "object" }, annotations: readOnly },
];

function make() {
  const server = new Server({ name: "typescript", version: "1.0.0" }, { capabilities: { tools: {} } });
  server.setRequestHandler(ListToolsRequestSchema, async () => ({ tools }));
  server.setRequestHandler(CallToolRequestSchema, async ({ params }) => {
    if (params.name === "repeat") return { content: [{ type: "text", text: params.arguments.text }] };
    return { content: [{ type: "text", text: "it fails" }], isError: true };
  });
  return server;
}

const sessions = new Map();
const web = createServer(async (request, response) => {
  let transport = sessions.get(request.headers["mcp-session-id"]);
  if (!transport) {
    transport = new StreamableHTTPServerTransport({
      sessionIdGenerator: randomUUID,
      onsessioninitialized: (id) => sessions.set(id, transport),
    });
    await make().connect(transport);
  }
  await transport.handleRequest(request, response);
});
web.listen(0, "127.0.0.1", () => console.log(`http://127.0.0.1:${web.address().port}/mcp`));
