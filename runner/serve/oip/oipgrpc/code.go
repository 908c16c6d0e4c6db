package oipgrpc

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/gophersnake/gophersnake/runner/serve"
)

// codeOf are the codes for the statuses of HTTP. The death of an interpreter, 502, is an internal
// error, since clients may repeat calls that were unavailable, and the runner has done so already.
var codeOf = map[int]codes.Code{
	http.StatusBadRequest:            codes.InvalidArgument,
	http.StatusUnauthorized:          codes.Unauthenticated,
	http.StatusForbidden:             codes.PermissionDenied,
	http.StatusNotFound:              codes.NotFound,
	http.StatusMethodNotAllowed:      codes.Unimplemented,
	http.StatusNotAcceptable:         codes.InvalidArgument,
	http.StatusRequestTimeout:        codes.DeadlineExceeded,
	http.StatusConflict:              codes.Aborted,
	http.StatusRequestEntityTooLarge: codes.ResourceExhausted,
	http.StatusUnsupportedMediaType:  codes.InvalidArgument,
	http.StatusUnprocessableEntity:   codes.InvalidArgument,
	http.StatusTooManyRequests:       codes.ResourceExhausted,
	http.StatusInternalServerError:   codes.Internal,
	http.StatusBadGateway:            codes.Internal,
	http.StatusServiceUnavailable:    codes.Unavailable,
	http.StatusGatewayTimeout:        codes.DeadlineExceeded,
}

// Code returns the code of gRPC for a status of HTTP.
func Code(httpStatus int) codes.Code {
	if code, ok := codeOf[httpStatus]; ok {
		return code
	}
	return codes.Unknown
}

// statusOf returns the status of a call with a problem. Its details are an ErrorInfo with the type
// of the problem as the reason, and when to try again if that is known.
func statusOf(ctx context.Context, p *serve.Problem) error {
	code := Code(p.Status)
	if errors.Is(ctx.Err(), context.Canceled) {
		code = codes.Canceled
	}
	info := &errdetails.ErrorInfo{
		Reason: strings.ToUpper(strings.ReplaceAll(p.Type, "-", "_")), Domain: "gophersnake",
		Metadata: map[string]string{"request_id": p.RequestID},
	}
	if p.Kind != "" {
		info.Metadata["kind"] = p.Kind
	}
	if p.Node != "" {
		info.Metadata["node"] = p.Node
	}
	details := []protoadapt.MessageV1{info}
	if p.RetryAfter > 0 {
		details = append(details, &errdetails.RetryInfo{RetryDelay: durationpb.New(p.RetryAfter)})
	}
	plain := status.New(code, strings.ToValidUTF8(p.String(), "�"))
	if detailed, err := plain.WithDetails(details...); err == nil {
		return detailed.Err()
	}
	return plain.Err()
}
