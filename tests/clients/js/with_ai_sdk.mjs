import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { embedMany } from "ai";

const [url, ...texts] = process.argv.slice(2);
// docs: begin
const provider = createOpenAICompatible({ name: "embergem", baseURL: url, apiKey: "any" });
const answer = await embedMany({ model: provider.embeddingModel("default:query"), values: texts });
// docs: end
console.log(JSON.stringify({ query: answer.embeddings }));
