package media_test

import (
	"bytes"
	"fmt"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner/media"
)

func ExampleEncodeWAV() {
	var file bytes.Buffer
	tone := &ipc.Audio{Samples: []float32{0, 0.5, 0, -0.5}, Rate: 16000, Channels: 1}
	if err := media.EncodeWAV(&file, tone, media.Int16); err != nil {
		fmt.Println(err)
		return
	}
	value, err := media.Decode(file.Bytes())
	if err != nil {
		fmt.Println(err)
		return
	}
	audio := value.(*ipc.Audio)
	fmt.Println(audio.Frames(), "frames at", audio.Rate, "Hz")
	// Output: 4 frames at 16000 Hz
}

// The samples of a microphone are read block by block.
func ExampleNewPCMReader() {
	microphone := bytes.NewReader(make([]byte, 2*2400)) // 2400 samples of 16 bits
	reader := media.NewPCMReader(microphone, 16000, 1, media.Int16)
	for {
		block, err := reader.Next(1000)
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(block.Frames())
	}
	// Output:
	// 1000
	// 1000
	// 400
	// EOF
}
