package ipc

import (
	"net"
	"os"
	"os/exec"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/vmihailenco/msgpack/v5"
	"golang.org/x/sys/unix"
)

// echoVariable makes the test binary serve as the peer of a benchmark, so that the peer's
// time and memory are not counted.
const echoVariable = "GOPHERSNAKE_TEST_ECHO"

func TestMain(m *testing.M) {
	if os.Getenv(echoVariable) != "" {
		echo(os.NewFile(3, "socket"))
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// echo answers every call with its only argument until the connection ends.
func echo(f *os.File) {
	nc, err := net.FileConn(f)
	if err != nil {
		panic(err)
	}
	write := func(t FrameType, call uint64, body []byte, buffers [][]byte) {
		frame := append(net.Buffers{headerOf(t, call, len(body), buffers), body}, buffers...)
		_, _ = frame.WriteTo(nc) // the end is seen when reading
	}
	hello, _ := msgpack.Marshal(Hello{Protocol: Version})
	ready, _ := msgpack.Marshal(Description{Name: "echo"})
	write(frameHello, 0, hello, nil)
	write(frameReady, 0, ready, nil)
	reader := newFrameReader(nc, DefaultLimits())
	for {
		frame, err := reader.next()
		if err != nil {
			return
		}
		if frame.kind == FrameCall { // [[value], {}]
			write(frameResult, frame.call, frame.Body[2:len(frame.Body)-1], frame.Buffers)
		}
	}
}

func startEcho(b *testing.B) *Conn {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	require.NoError(b, err)
	unix.CloseOnExec(fds[0])
	unix.CloseOnExec(fds[1])
	ours, theirs := os.NewFile(uintptr(fds[0]), "ours"), os.NewFile(uintptr(fds[1]), "theirs")
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), echoVariable+"=1")
	cmd.ExtraFiles = []*os.File{theirs}
	cmd.Stderr = os.Stderr
	require.NoError(b, cmd.Start())
	require.NoError(b, theirs.Close())
	nc, err := net.FileConn(ours)
	require.NoError(b, err)
	require.NoError(b, ours.Close())
	c, _, _, err := Start(nc, nil, Setup{Limits: SetupLimits{Limits: DefaultLimits()}}, Events{})
	require.NoError(b, err)
	b.Cleanup(func() { c.Close(); _ = cmd.Wait() })
	return c
}

var smallValue any = map[string]any{"text": "hello, world", "n": 42, "score": 0.5}

func BenchmarkEncodeSmall(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Encode("input", smallValue); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkEncodeTensor(b *testing.B) {
	tensor, err := NewTensor(make([]float32, 1<<20), 1024, 1024)
	require.NoError(b, err)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Encode("input", tensor); err != nil {
			b.Fatal(err)
		}
	}
}

func benchmarkDecoding(b *testing.B, v any, decode func(Payload) error) {
	p, err := Encode("result", v)
	require.NoError(b, err)
	b.ReportAllocs()
	for b.Loop() {
		if err := decode(p); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDecodeSmall(b *testing.B) {
	benchmarkDecoding(b, smallValue, func(p Payload) error { _, err := p.Decode("result", DefaultLimits()); return err })
}

func BenchmarkCheckSmall(b *testing.B) {
	benchmarkDecoding(b, smallValue, func(p Payload) error { return p.Check("result", DefaultLimits()) })
}

func BenchmarkCheckAudio(b *testing.B) {
	audio := &Audio{Samples: make([]float32, 1000), Rate: 16000, Channels: 1}
	benchmarkDecoding(b, audio, func(p Payload) error { return p.Check("result", DefaultLimits()) })
}

// BenchmarkCallSmall measures one call on the connection, without encoding its value and
// decoding its answer.
func BenchmarkCallSmall(b *testing.B) {
	c := startEcho(b)
	p, err := Encode("input", smallValue)
	require.NoError(b, err)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.NewCall(FrameCall, 0).Do(OneArg(p)); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkCallAfterIdle measures a call while readWhileIdle reads.
func BenchmarkCallAfterIdle(b *testing.B) {
	c := startEcho(b)
	p, err := Encode("input", smallValue)
	require.NoError(b, err)
	for b.Loop() {
		b.StopTimer()
		time.Sleep(2 * idleAfter)
		b.StartTimer()
		if _, err := c.NewCall(FrameCall, 0).Do(OneArg(p)); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCall64InFlight(b *testing.B) {
	c := startEcho(b)
	p, err := Encode("input", smallValue)
	require.NoError(b, err)
	const callers = 64
	b.ReportAllocs()
	b.ResetTimer()
	var group sync.WaitGroup
	for i := range callers {
		group.Go(func() {
			for range (b.N + i) / callers {
				if _, err := c.NewCall(FrameCall, 0).Do(OneArg(p)); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	group.Wait()
}

// BenchmarkCallTensor sends and receives 4 MiB.
func BenchmarkCallTensor(b *testing.B) {
	c := startEcho(b)
	tensor, err := NewTensor(make([]float32, 1<<20), 1<<20)
	require.NoError(b, err)
	p, err := Encode("input", tensor)
	require.NoError(b, err)
	b.SetBytes(2 << 22)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.NewCall(FrameCall, 0).Do(OneArg(p)); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkCheckLarge and BenchmarkDecodeLarge measure a list of 10,000 maps.
func BenchmarkCheckLarge(b *testing.B) {
	benchmarkDecoding(b, slices.Repeat([]any{smallValue}, 10_000), func(p Payload) error { return p.Check("result", DefaultLimits()) })
}

func BenchmarkDecodeLarge(b *testing.B) {
	benchmarkDecoding(b, slices.Repeat([]any{smallValue}, 10_000), func(p Payload) error { _, err := p.Decode("result", DefaultLimits()); return err })
}
