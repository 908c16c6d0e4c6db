package arrow

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	arrowipc "github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// fileOf returns a table as an Arrow file.
func fileOf(t testing.TB, table Table, options ...arrowipc.Option) []byte {
	var file bytes.Buffer
	writer, err := arrowipc.NewFileWriter(&file, append(options, arrowipc.WithSchema(table.Schema))...)
	require.NoError(t, err)
	for _, batch := range table.Records {
		require.NoError(t, writer.Write(batch))
	}
	require.NoError(t, writer.Close())
	return file.Bytes()
}

func TestAnArrowFileComesBackAsItWas(t *testing.T) {
	for name, want := range tablesOfAllShapes(t) {
		var written bytes.Buffer
		require.NoError(t, EncodeFile(&written, want))
		files := map[string][]byte{
			"written": written.Bytes(), "lz4": fileOf(t, want, arrowipc.WithLZ4()), "zstd": fileOf(t, want, arrowipc.WithZstd()),
			"stream": streamOf(t, want), "compressed stream": streamOf(t, want, arrowipc.WithZstd()),
		}
		for how, file := range files {
			t.Run(name+", "+how, func(t *testing.T) {
				assert.True(t, IsFile(file))
				got, err := DecodeFile(file)
				require.NoError(t, err)
				assert.True(t, want.Schema.Equal(got.Schema))
				require.Len(t, got.Records, len(want.Records))
				for i, batch := range want.Records {
					assert.True(t, array.RecordEqual(batch, got.Records[i]), "%v\n%v", batch, got.Records[i])
				}
			})
		}
	}
}

func TestNoDamageOfOneByteOfAnArrowFileDoesHarm(t *testing.T) {
	for _, option := range []arrowipc.Option{arrowipc.WithLZ4(), arrowipc.WithZstd()} {
		file := fileOf(t, people(t), option)
		for at := range file {
			for _, damage := range []byte{0x01, 0x80, 0xff} {
				damaged := bytes.Clone(file)
				damaged[at] ^= damage
				if table, err := DecodeFile(damaged); err == nil {
					touch(table)
				}
			}
		}
	}
}

func TestAnArrowFileThatIsNotValidIsAnError(t *testing.T) {
	good := fileOf(t, people(t), arrowipc.WithZstd())
	for size := range good {
		_, err := DecodeFile(good[:size])
		require.Error(t, err)
	}
	const zstd = "\x28\xb5\x2f\xfd" // begins each compressed buffer, behind its size
	at := bytes.Index(good, []byte(zstd)) - 8
	require.Positive(t, at)
	for announced, want := range map[int64]string{
		1 << 40: "announces 1099511627776 bytes", 1 << 30: "announces 1073741824 bytes", -5: "announces 18446744073709551611 bytes",
	} {
		bomb := bytes.Clone(good)
		binary.LittleEndian.PutUint64(bomb[at:], uint64(announced))
		_, err := DecodeFile(bomb)
		assert.ErrorContains(t, err, want)
	}
	_, err := DecodeFile([]byte("text that is long enough"))
	assert.EqualError(t, err, "decode an Arrow file: it does not begin like one")
	assert.False(t, IsFile([]byte("text that is long enough")))
	assert.False(t, IsFile([]byte("\xff\xff\xff\xff")))
}

func TestATableThatAnArrowFileCannotHoldIsAnError(t *testing.T) {
	require.Error(t, EncodeFile(&bytes.Buffer{}, Table{}))
	other := New(words(t, arrow.BinaryTypes.String, `["abc"]`).Records[0], people(t).Records[0])
	require.Error(t, EncodeFile(&bytes.Buffer{}, other))
	assert.ErrorIs(t, EncodeFile(full{}, people(t)), errFull)
}

var errFull = errors.New("the disk is full")

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errFull }

// FuzzDecodeFile checks that no Arrow file does harm.
func FuzzDecodeFile(f *testing.F) {
	for _, table := range []Table{people(f), everything(f)} {
		f.Add(fileOf(f, table))
		f.Add(fileOf(f, table, arrowipc.WithLZ4()))
		f.Add(fileOf(f, table, arrowipc.WithZstd()))
	}
	f.Fuzz(func(_ *testing.T, file []byte) {
		if table, err := DecodeFile(file); err == nil {
			touch(table)
		}
	})
}
