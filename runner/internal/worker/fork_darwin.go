package worker

import (
	"errors"
	"os"
)

// noForkServer says why there is none here.
const noForkServer = "the fork server needs Linux"

func adopt(*server, int, *process, *os.File) (body, error) { return nil, errors.ErrUnsupported }
