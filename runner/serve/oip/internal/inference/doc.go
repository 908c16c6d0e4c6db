// Package inference is the interface of the Open Inference Protocol over gRPC. inference.proto
// describes it, and the code is generated:
//
//	go test ./runner/serve/oip/internal/inference -run Current -update
package inference
