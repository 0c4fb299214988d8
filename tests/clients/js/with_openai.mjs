import OpenAI from "openai";

const [url, ...texts] = process.argv.slice(2);
// docs: begin
const client = new OpenAI({ baseURL: url, apiKey: "any" });
const answer = await client.embeddings.create({ model: "default:query", input: texts });
// docs: end
console.log(JSON.stringify({ query: answer.data.map((item) => item.embedding) }));
