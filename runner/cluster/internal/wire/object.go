package wire

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"
)

// The size of the chunks of an object: the largest that the server takes, within a bound.
const (
	largestChunk = 512 << 10
	headerRoom   = 4 << 10
)

// An object is stored again if no server led its stream.
const (
	putTries = 3
	putPause = 300 * time.Millisecond
)

// putObject stores a content as an object of nats.go, under a name that no object has. The Put of
// nats.go does not do: if no server leads the stream, it publishes a chunk again later, out of
// order and with the bytes of a later chunk. Here the whole object is published again.
func putObject(ctx context.Context, js jetstream.JetStream, bucket, name string, content []byte) (err error) {
	for try := range putTries {
		if try > 0 {
			select {
			case <-ctx.Done():
				return err
			case <-time.After(putPause):
			}
		}
		chunks := "$O." + bucket + ".C." + nuid.Next()
		if err = publishObject(ctx, js, bucket, name, chunks, content); err == nil {
			return nil
		}
		go purge(js, bucket, chunks)
		if !errors.Is(err, nats.ErrNoResponders) && !errors.Is(err, jetstream.ErrNoStreamResponse) {
			break
		}
	}
	return err
}

// publishObject publishes the chunks and the description of an object, and waits until the
// server has acknowledged all of them.
func publishObject(ctx context.Context, js jetstream.JetStream, bucket, name, chunks string, content []byte) error {
	size := min(largestChunk, int(js.Conn().MaxPayload())-headerRoom)
	digest := sha256.New()
	_, _ = digest.Write(content)
	info := jetstream.ObjectInfo{
		ObjectMeta: jetstream.ObjectMeta{Name: name, Opts: &jetstream.ObjectMetaOptions{ChunkSize: uint32(size)}}, //nolint:gosec // it is small
		Bucket:     bucket, NUID: chunks[len("$O."+bucket+".C."):], Size: uint64(len(content)), Digest: jetstream.GetObjectDigestValue(digest),
	}
	var acks []jetstream.PubAckFuture
	publish := func(msg *nats.Msg) error {
		ack, err := js.PublishMsgAsync(msg, jetstream.WithRetryAttempts(0))
		acks = append(acks, ack)
		return err
	}
	for chunk := range slices.Chunk(content, size) {
		info.Chunks++
		if err := publish(&nats.Msg{Subject: chunks, Data: chunk}); err != nil {
			return err
		}
	}
	body, err := json.Marshal(&info)
	if err != nil {
		return err
	}
	description := &nats.Msg{
		Subject: "$O." + bucket + ".M." + base64.URLEncoding.EncodeToString([]byte(name)), Data: body,
		Header: nats.Header{jetstream.MsgRollup: {jetstream.MsgRollupSubject}},
	}
	if err := publish(description); err != nil {
		return err
	}
	for _, ack := range acks {
		select {
		case <-ack.Ok():
		case err := <-ack.Err():
			return err
		case <-ctx.Done():
			return nats.ErrTimeout
		}
	}
	return nil
}

// purge deletes the chunks of an object that was not stored as a whole, if the server lets it.
func purge(js jetstream.JetStream, bucket, chunks string) {
	ctx, cancel := context.WithTimeout(context.Background(), dropTimeout)
	defer cancel()
	if stream, err := js.Stream(ctx, "OBJ_"+bucket); err == nil {
		_ = stream.Purge(ctx, jetstream.WithPurgeSubject(chunks))
	}
}
