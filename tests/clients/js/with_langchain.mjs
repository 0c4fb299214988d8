import { OpenAIEmbeddings } from "@langchain/openai";

const [url, ...texts] = process.argv.slice(2);
// docs: begin
const queries = new OpenAIEmbeddings({ configuration: { baseURL: url }, apiKey: "any", model: "default:query" });
// docs: end
const documents = new OpenAIEmbeddings({ configuration: { baseURL: url }, apiKey: "any", model: "default:document" });
const found = { query: [await queries.embedQuery(texts[0])], document: await documents.embedDocuments(texts) };
console.log(JSON.stringify(found));
