// Finds actions in the features of one video with a file of `stale-edge export --detections`.
//
//   javac -cp onnxruntime.jar Detect.java && java -cp onnxruntime.jar:. Detect model.onnx video.f32
//   (numpy: features.astype("<f4").tofile("video.f32"))
//
// On Android the same code runs with the dependency com.microsoft.onnxruntime:onnxruntime-android; there the model comes
// from the assets: environment.createSession(bytes).
import ai.onnxruntime.OnnxTensor;
import ai.onnxruntime.OrtEnvironment;
import ai.onnxruntime.OrtException;
import ai.onnxruntime.OrtSession;
import ai.onnxruntime.TensorInfo;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.FloatBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Map;

public final class Detect {
  public static void main(String[] words) throws IOException, OrtException {
    OrtEnvironment environment = OrtEnvironment.getEnvironment();
    try (OrtSession session = environment.createSession(words[0], new OrtSession.SessionOptions())) {
      long width = ((TensorInfo) session.getInputInfo().get("features").getInfo()).getShape()[2];
      ByteBuffer bytes = ByteBuffer.wrap(Files.readAllBytes(Path.of(words[1]))).order(ByteOrder.LITTLE_ENDIAN);
      FloatBuffer values = bytes.asFloatBuffer();
      long[] shape = {1, values.remaining() / width, width};
      try (OnnxTensor features = OnnxTensor.createTensor(environment, values, shape);
          OrtSession.Result found = session.run(Map.of("features", features))) {
        float[][] segments = (float[][]) found.get("segments").get().getValue(); // in snippets, best first
        long[] labels = (long[]) found.get("labels").get().getValue();
        float[] scores = (float[]) found.get("scores").get().getValue();
        System.err.println("classes: " + session.getMetadata().getCustomMetadata().get("stale_edge.classes"));
        for (int row = 0; row < scores.length; row++)
          System.out.printf("%.2f %.2f %d %.4f%n", segments[row][0], segments[row][1], labels[row], scores[row]);
      }
    }
  }
}
