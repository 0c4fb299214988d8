import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse;
import java.net.http.HttpResponse.BodyHandlers;

class WithJdk {
    public static void main(String[] arguments) throws Exception {
        String url = arguments[0];
        StringBuilder texts = new StringBuilder();
        for (int i = 1; i < arguments.length; i++) {
            texts.append(i == 1 ? "" : ", ").append('"').append(arguments[i]).append('"'); // the texts need no escapes
        }
        String body = "{\"model\": \"default:query\", \"input\": [" + texts + "]}";
        // docs: begin
        HttpRequest request = HttpRequest.newBuilder(URI.create(url + "/embeddings"))
            .header("Authorization", "Bearer any").header("Content-Type", "application/json")
            .POST(BodyPublishers.ofString(body)).build();
        HttpResponse<String> answer = HttpClient.newHttpClient().send(request, BodyHandlers.ofString());
        // docs: end
        System.out.println("{\"query\": " + answer.body() + "}");
    }
}
