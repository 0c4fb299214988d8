import dev.langchain4j.data.segment.TextSegment;
import dev.langchain4j.model.openai.OpenAiEmbeddingModel;
import java.util.Arrays;
import java.util.List;
import java.util.stream.Stream;

class WithLangchain4j {
    public static void main(String[] arguments) {
        String url = arguments[0];
        // docs: begin
        OpenAiEmbeddingModel model =
            OpenAiEmbeddingModel.builder().baseUrl(url).apiKey("any").modelName("default:query").build();
        // docs: end
        List<TextSegment> texts = Stream.of(arguments).skip(1).map(TextSegment::from).toList();
        List<String> vectors = model.embedAll(texts).content().stream().map(e -> Arrays.toString(e.vector())).toList();
        System.out.println("{\"query\": " + vectors + "}");
    }
}
