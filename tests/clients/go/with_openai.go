package main

import (
	"context"
	"encoding/json"
	"log"
	"os"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
)

func main() {
	url, texts := os.Args[1], os.Args[2:]
	// docs: begin
	client := openai.NewClient(option.WithBaseURL(url), option.WithAPIKey("any"))
	answer, err := client.Embeddings.New(context.Background(), openai.EmbeddingNewParams{
		Model: "default:query", Input: openai.EmbeddingNewParamsInputUnion{OfArrayOfStrings: texts},
	})
	// docs: end
	if err != nil {
		log.Fatal(err)
	}
	var vectors [][]float64
	for _, item := range answer.Data {
		vectors = append(vectors, item.Embedding)
	}
	if err := json.NewEncoder(os.Stdout).Encode(map[string]any{"query": vectors}); err != nil {
		log.Fatal(err)
	}
}
