package output

import (
	"bytes"
	"io"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

// FuzzLines checks that output in pieces of any size is split into lines of bounded
// length, and that none of it is lost.
func FuzzLines(f *testing.F) {
	f.Add([]byte("a\nb\r\n\r\r\n\nc"), uint16(1))
	f.Add([]byte("\x00\xff\r"), uint16(MaxLine))
	f.Add([]byte("x"), uint16(3*MaxLine+1))
	f.Add([]byte("0123456\n"), uint16(MaxLine/8+1))
	f.Fuzz(func(t *testing.T, piece []byte, times uint16) {
		out := bytes.Repeat(piece, min(int(times), 3*MaxLine/max(len(piece), 1)))
		file, writer, err := os.Pipe()
		require.NoError(t, err)
		defer file.Close()
		go func() {
			_, _ = writer.Write(out)
			_ = writer.Close()
		}()
		var seen, found []byte
		l := Lines{File: file, OnRead: func(b []byte) { seen = append(seen, b...) }}
		for {
			line, err := l.Next()
			if err != nil {
				require.Equal(t, io.EOF, err)
				break
			}
			require.LessOrEqual(t, len(line), 2*MaxLine)
			require.NotContains(t, string(line), "\n")
			found = append(found, line...)
		}
		require.True(t, bytes.Equal(out, seen))
		without := func(b []byte) []byte {
			return bytes.ReplaceAll(bytes.ReplaceAll(b, []byte("\n"), nil), []byte("\r"), nil)
		}
		require.True(t, bytes.Equal(without(out), without(found)))
	})
}
