// Finds actions in the features of one video with a file of `stale-edge export --detections`.
//
// iOS and macOS: the package onnxruntime-swift-package-manager (product onnxruntime), or the pod onnxruntime-objc.
import Foundation
import OnnxRuntimeBindings

struct Detection {
  let start: Float, end: Float  // in snippets; the output segments_s has seconds where the file knows their length
  let label: Int64, score: Float
}

/// Runs one video. `features` are float32 rows of `width`, one after the other.
func detect(model path: String, features: [Float], width: Int) throws -> [Detection] {
  let environment = try ORTEnv(loggingLevel: .warning)
  let options = try ORTSessionOptions()
  try options.setIntraOpNumThreads(2)
  let session = try ORTSession(env: environment, modelPath: path, sessionOptions: options)
  let data = features.withUnsafeBytes { NSMutableData(bytes: $0.baseAddress!, length: $0.count) }
  let shape: [NSNumber] = [1, NSNumber(value: features.count / width), NSNumber(value: width)]
  let input = try ORTValue(tensorData: data, elementType: .float, shape: shape)
  let names: Set<String> = ["segments", "labels", "scores"]
  let found = try session.run(withInputs: ["features": input], outputNames: names, runOptions: nil)

  func values<T>(_ name: String, as type: T.Type) throws -> [T] {
    let data = try found[name]!.tensorData() as Data
    return data.withUnsafeBytes { Array($0.bindMemory(to: T.self)) }
  }
  let segments = try values("segments", as: Float.self), labels = try values("labels", as: Int64.self)
  return try values("scores", as: Float.self).enumerated().map { row, score in
    Detection(start: segments[2 * row], end: segments[2 * row + 1], label: labels[row], score: score)
  }
}
