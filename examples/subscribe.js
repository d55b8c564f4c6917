// Follows a model in Node.js 18 or newer.  npm install redis
//
//   node subscribe.js redis://localhost:6379 palette [namespace] [since]
//
// Prints one line of JSON per version. The payload is safetensors: the length of a JSON header (uint64,
// little-endian), the header, and the arrays one after the other (little-endian, C order).
const { createClient, ErrorReply, RESP_TYPES } = require("redis");

function readSafetensors(buffer) {
  const length = Number(buffer.readBigUInt64LE(0));
  const header = JSON.parse(buffer.toString("utf8", 8, 8 + length));
  const arrays = {};
  const { __metadata__, ...tensors } = header;
  for (const [name, { dtype, shape, data_offsets: [start, end] }] of Object.entries(tensors)) {
    const Numbers = { F64: Float64Array, I64: BigInt64Array }[dtype];
    if (!Numbers) throw new Error(`${name} is ${dtype}, expected F64 or I64`);
    const bytes = Uint8Array.from(buffer.subarray(8 + length + start, 8 + length + end));
    arrays[name] = { shape, data: new Numbers(bytes.buffer) }; // a copy, so it is aligned
  }
  return { meta: JSON.parse(__metadata__.streamclust), arrays };
}

function valueOf(fields, name) {
  const at = fields.findIndex((field, n) => n % 2 === 0 && field.equals(Buffer.from(name)));
  return at < 0 ? undefined : fields[at + 1];
}

// Whether an entry is of a new model with the same name: its versions count from 1 again.
function isAnother([id, fields], last, modelId) {
  const found = valueOf(fields, "model_id")?.toString();
  return parseInt(id) < parseInt(last) || (found && modelId && found !== modelId);
}

async function main(url, model, namespace = "streamclust", since = "0") {
  const client = createClient({ url, RESP: 2 });
  client.on("error", (error) => console.error(error.message)); // it connects again by itself
  await client.connect();
  const asBuffers = { typeMapping: { [RESP_TYPES.BLOB_STRING]: Buffer } };
  const key = `{${namespace}:${model}}:models`;
  const send = (...command) => client.sendCommand(command, asBuffers).catch((error) => {
    if (error instanceof ErrorReply) throw error;
    return null; // the connection was lost: read again after the last version
  });
  let last = `${since}-0`; // the ID of the last version that was read
  let modelId; // distinguishes models that had this name one after the other
  for (;;) {
    const reply = await send("XREAD", "BLOCK", "5000", "COUNT", "16", "STREAMS", key, last);
    // [[key, [[id, [field, value, ...]], ...]]], or null if no version came
    const entries = reply?.[0][1] ?? [];
    const newest = entries.length ? entries : await send("XREVRANGE", key, "+", "-", "COUNT", "1");
    const seen = newest?.[0];
    if (seen && isAnother(seen, last, modelId)) {
      console.error(`${key}: another model has this name now; reading its versions from the first`);
      [last, modelId] = ["0-0", undefined];
      continue;
    }
    for (const [id, fields] of entries) {
      last = id.toString();
      modelId = valueOf(fields, "model_id")?.toString();
      const { meta, arrays } = readSafetensors(valueOf(fields, "payload"));
      const { data, shape: [K, D] } = arrays.centroids ?? arrays.means;
      const means = Array.from({ length: K }, (_, k) => Array.from(data.subarray(k * D, k * D + D)));
      // Numbers of the components, where K adapts: they rise, and a component keeps its number.
      const ids = arrays.ids && Array.from(arrays.ids.data, Number);
      console.log(JSON.stringify({ version: meta.version, points: meta.points, means, ids }));
    }
  }
}

main(...process.argv.slice(2)).catch((error) => {
  console.error(error.message);
  process.exit(1);
});
