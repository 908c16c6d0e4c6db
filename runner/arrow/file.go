package arrow

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	arrowipc "github.com/apache/arrow-go/v18/arrow/ipc"
)

// fileMark begins an Arrow file, which pandas and polars call Feather. Two bytes follow it, so
// that the stream behind it is aligned.
const fileMark = "ARROW1"

// IsFile reports whether data begins like what [DecodeFile] reads. 8 bytes of data are enough.
func IsFile(data []byte) bool {
	return bytes.HasPrefix(data, []byte(fileMark)) || isStream(data)
}

// isStream reports whether data begins like the first message of a stream: with its mark, and
// the length of its metadata.
func isStream(data []byte) bool {
	if len(data) < 8 || binary.LittleEndian.Uint32(data) != 0xffffffff {
		return false
	}
	size := binary.LittleEndian.Uint32(data[4:])
	return size > 0 && size%8 == 0
}

// DecodeFile reads the records of an Arrow file or of an Arrow stream that was stored as a file.
// They share the memory of data, which must not change afterwards.
//
// The data is not trusted and is checked as [Decode] does. Compressed buffers are allowed; their
// sizes together are at most 8 GiB. DecodeFile reads a file as the stream that it contains, and
// does not use its index, so dictionaries must stand before the records that refer to them.
func DecodeFile(data []byte) (Table, error) {
	decoded, err := decodeFile(data)
	if err != nil {
		return Table{}, fmt.Errorf("decode an Arrow file: %w", err)
	}
	return decoded, nil
}

func decodeFile(data []byte) (Table, error) {
	from := &messages{rest: data}
	if stream, isFile := bytes.CutPrefix(data, []byte(fileMark)); isFile {
		if len(stream) < 2 || !bytes.HasSuffix(stream, []byte(fileMark)) {
			return Table{}, errors.New("it is truncated")
		}
		from.rest = stream[2:]
	} else if !isStream(data) {
		return Table{}, errors.New("it does not begin like one")
	}
	from.file = true
	return decode(from)
}

// EncodeFile writes a table as an Arrow file, without compression. It fails if the records
// differ in their columns, or with the error of w.
func EncodeFile(w io.Writer, t Table) error {
	schema, err := t.schema()
	if err != nil {
		return fmt.Errorf("encode an Arrow file: %w", err)
	}
	writer, err := arrowipc.NewFileWriter(w, arrowipc.WithSchema(schema))
	if err != nil {
		return fmt.Errorf("encode an Arrow file: %w", err)
	}
	for i, batch := range t.Records {
		if err := writer.Write(batch); err != nil {
			return fmt.Errorf("encode record batch %d of an Arrow file: %w", i, err)
		}
	}
	if err := writer.Close(); err != nil {
		return fmt.Errorf("encode an Arrow file: %w", err)
	}
	return nil
}
