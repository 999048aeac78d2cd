// Finds actions in the features of one video with a file of `stale-edge export --detections`.
//
//   c++ -std=c++17 detect.cpp -I onnxruntime/include -L onnxruntime/lib -lonnxruntime -o detect
//   ./detect model.onnx video.f32        (numpy: features.astype("<f4").tofile("video.f32"))
#include <onnxruntime_cxx_api.h>

#include <cstdint>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <vector>

int main(int argc, char** argv) try {
  if (argc != 3) return std::fprintf(stderr, "usage: detect MODEL.onnx FEATURES.f32\n"), 2;
  Ort::Env env(ORT_LOGGING_LEVEL_WARNING, "detect");
  Ort::SessionOptions options;
  options.SetIntraOpNumThreads(1);
  Ort::Session session(env, argv[1], options);
  const std::int64_t width = session.GetInputTypeInfo(0).GetTensorTypeAndShapeInfo().GetShape().at(2);

  std::ifstream file(argv[2], std::ios::binary);
  std::vector<char> bytes{std::istreambuf_iterator<char>(file), {}};
  const std::int64_t snippets = bytes.size() / sizeof(float) / width;
  if (snippets < 1) return std::fprintf(stderr, "%s: holds no snippet of width %lld\n", argv[2], (long long)width), 65;
  const std::int64_t shape[] = {1, snippets, width};
  auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
  auto features = Ort::Value::CreateTensor<float>(memory, reinterpret_cast<float*>(bytes.data()), snippets * width, shape, 3);

  const char* inputs[] = {"features"};
  const char* outputs[] = {"segments", "labels", "scores"};
  auto found = session.Run(Ort::RunOptions{nullptr}, inputs, &features, 1, outputs, 3);
  const float* segments = found[0].GetTensorData<float>();  // starts and ends in snippets, best first
  const std::int64_t* labels = found[1].GetTensorData<std::int64_t>();
  const float* scores = found[2].GetTensorData<float>();

  Ort::AllocatorWithDefaultOptions allocator;
  auto classes = session.GetModelMetadata().LookupCustomMetadataMapAllocated("stale_edge.classes", allocator);
  std::fprintf(stderr, "classes: %s\n", classes ? classes.get() : "[]");
  for (std::size_t row = 0; row < found[2].GetTensorTypeAndShapeInfo().GetElementCount(); ++row)
    std::printf("%.2f %.2f %lld %.4f\n", segments[2 * row], segments[2 * row + 1], (long long)labels[row], scores[row]);
} catch (const std::exception& error) {
  return std::fprintf(stderr, "error: %s\n", error.what()), 1;
}
