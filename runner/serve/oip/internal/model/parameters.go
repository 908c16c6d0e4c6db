package model

import (
	"fmt"
	"math"
	"time"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner/serve"
)

// TimeoutParameter is the parameter of a request with its timeout, in microseconds.
const TimeoutParameter = "timeout"

// Timeout returns the value of that parameter, 0 if there is none.
func Timeout(v any) (time.Duration, error) {
	switch n := v.(type) {
	case nil:
		return 0, nil
	case int64:
		if n >= 0 && n < math.MaxInt64/int64(time.Microsecond) {
			return time.Duration(n) * time.Microsecond, nil
		}
	}
	return 0, serve.Malformed(fmt.Sprintf("the parameter timeout takes microseconds, not %v", v), "")
}

// CheckParameters refuses parameters of a request that change what it means. Others are ignored.
func CheckParameters(parameters ipc.Object) error {
	for _, p := range parameters {
		if p.Key == "sequence_id" && p.Value != int64(0) && p.Value != "" {
			return serve.Malformed("sequences of requests are not supported", "a stream through a stateful node is at /v1/pipelines/NAME")
		}
	}
	return nil
}

// CheckInput refuses an input whose data are elsewhere.
func CheckInput(name string, parameters ipc.Object) error {
	return checkTensor(fmt.Sprintf("input %q", name), parameters)
}

// CheckOutput refuses a form of outputs that is not supported.
func CheckOutput(name string, parameters ipc.Object) error {
	if n := member(parameters, "classification"); n != nil && n != int64(0) {
		return serve.Malformed(fmt.Sprintf("output %q: the classification extension is not supported", name), "ask for the output as it is")
	}
	return checkTensor(fmt.Sprintf("output %q", name), parameters)
}

func checkTensor(which string, parameters ipc.Object) error {
	if _, ok := parameters.Get("shared_memory_region"); ok {
		return serve.Malformed(which+": shared memory between client and server is not supported", "send the data in the request")
	}
	return nil
}
