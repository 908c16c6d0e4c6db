package webhook

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"os"
	"strings"

	"github.com/gophersnake/gophersnake/runner"
)

// The bounds of the length of a secret, in bytes, as in Standard Webhooks, and the largest number of
// secrets.
const (
	shortestSecret = 24
	longestSecret  = 64
	mostSecrets    = 4
)

const secretHint = `a secret is "whsec_" and 24 to 64 random bytes in base64; this makes one: echo "whsec_$(openssl rand -base64 32)"`

// ParseSecret returns the bytes of a secret, which is in base64 and may begin with "whsec_". The
// error is of kind other, and does not name the secret.
func ParseSecret(text string) ([]byte, error) {
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(text, "whsec_"))
	switch {
	case err != nil:
		return nil, runner.NewError(runner.KindOther, "the secret for webhooks is not in base64").WithHint(secretHint)
	case len(key) < shortestSecret || len(key) > longestSecret:
		return nil, runner.NewError(runner.KindOther, fmt.Sprintf("the secret for webhooks has %d bytes", len(key))).WithHint(secretHint)
	}
	return key, nil
}

// ReadSecrets reads a file with a secret in each line. Empty lines and those that begin with # are
// skipped. The error is of kind io if the file cannot be read, and of kind other if it has no
// secret, more than 4 of them, or a line that is none.
func ReadSecrets(file string) (secrets []string, err error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, runner.Wrap(err, runner.KindIO, "read the secrets for webhooks")
	}
	number := 0
	for line := range bytes.Lines(data) {
		number++
		text := strings.TrimSpace(string(line))
		if text == "" || text[0] == '#' {
			continue
		}
		if _, err := ParseSecret(text); err != nil {
			e := runner.AsError(err)
			return nil, runner.NewError(e.Kind, fmt.Sprintf("%s:%d: %s", file, number, e.Message)).WithHint(e.Hint)
		}
		secrets = append(secrets, text)
	}
	switch {
	case len(secrets) == 0:
		return nil, runner.NewError(runner.KindOther, "there is no secret in "+file).WithHint(secretHint)
	case len(secrets) > mostSecrets:
		return nil, runner.NewError(runner.KindOther, fmt.Sprintf("there are more than %d secrets in %s", mostSecrets, file)).
			WithHint("each document is signed with all of them; remove those that no receiver checks any more")
	}
	return secrets, nil
}
