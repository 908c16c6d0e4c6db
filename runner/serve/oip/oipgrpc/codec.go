package oipgrpc

import (
	"fmt"

	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/proto" // the codec that this one wraps
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// codec is the codec of protobuf with a limit for what clients send. An empty message in a list
// takes 2 bytes on the wire and a hundred in memory, so that a limit of bytes alone is not enough.
type codec struct{ encoding.CodecV2 }

// mostMessages is the largest number of messages in one, at any depth: inputs and parameters.
const mostMessages = 10_000

func newCodec() codec { return codec{encoding.GetCodecV2("proto")} }

// Unmarshal decodes a message.
func (c codec) Unmarshal(data mem.BufferSlice, v any) error {
	into, ok := v.(proto.Message)
	if !ok {
		return c.CodecV2.Unmarshal(data, v)
	}
	buffer := data.MaterializeToBuffer(mem.DefaultBufferPool())
	defer buffer.Free()
	left := mostMessages
	if err := countMessages(into.ProtoReflect().Descriptor(), buffer.ReadOnlyData(), &left); err != nil {
		return err
	}
	return proto.Unmarshal(buffer.ReadOnlyData(), into)
}

// countMessages takes the number of messages in an encoded message from left.
func countMessages(of protoreflect.MessageDescriptor, data []byte, left *int) error {
	for len(data) > 0 {
		number, wireType, n := protowire.ConsumeTag(data)
		if n < 0 {
			return protowire.ParseError(n)
		}
		data = data[n:]
		size := protowire.ConsumeFieldValue(number, wireType, data)
		if size < 0 {
			return protowire.ParseError(size)
		}
		field := of.Fields().ByNumber(number)
		if field != nil && field.Message() != nil && wireType == protowire.BytesType {
			if *left--; *left < 0 {
				return fmt.Errorf("it has more than %d inputs, outputs and parameters", mostMessages)
			}
			inner, _ := protowire.ConsumeBytes(data)
			if err := countMessages(field.Message(), inner, left); err != nil {
				return err
			}
		}
		data = data[size:]
	}
	return nil
}
