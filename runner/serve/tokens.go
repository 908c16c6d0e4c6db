package serve

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"math"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/gophersnake/gophersnake/runner"
)

// Token is what a client proves itself with, and what it may do.
type Token struct {
	// Secret is what the client sends: "Authorization: Bearer SECRET".
	Secret string
	// Name stands for the token in logs and metrics. The default is token-N for the Nth
	// token.
	Name string
	// Admin allows what changes the service.
	Admin bool
	// Weight is the token's share of a pipeline that is busy, relative to the weights of
	// the other tokens that wait for it. The default is 1.
	Weight int
	// Rate limits the requests in a second that are calls; 0 stands for the default of
	// [WithRate]. Burst is how many of them may come at once; the default is the number of
	// one second, at least 1.
	Rate  float64
	Burst int
	// Priority is that of the token's requests. A request can lower it by the header
	// X-Priority, but not raise it.
	Priority Priority
}

// Priority says which requests come first when a pipeline is busy.
type Priority int

// The priorities. Those of other values are normal.
const (
	PriorityLow    Priority = -1
	PriorityNormal Priority = 0
	PriorityHigh   Priority = 1
)

var priorityNames = map[string]Priority{"low": PriorityLow, "normal": PriorityNormal, "high": PriorityHigh}

// client is a token with its state. Clients without a token have one for each address.
type client struct {
	Token
	id      string // never the secret
	limiter *rate.Limiter
	counts  *clientCounts
}

// clientCounts counts the calls of a token, or of all clients without one.
type clientCounts struct{ calls, limited atomic.Uint64 }

// tokenSet are the tokens that are valid at a time. It does not change.
type tokenSet struct {
	sums    [][sha256.Size]byte
	clients []*client // one for each sum
}

// newTokenSet returns the set for tokens. A token that was in the set before keeps what it has
// used of its rate.
func newTokenSet(tokens []Token, defaults limits, before *tokenSet) *tokenSet {
	s := &tokenSet{}
	for i, t := range tokens {
		if t.Name == "" {
			t.Name = fmt.Sprintf("token-%d", i+1)
		}
		t.Weight = max(t.Weight, 1)
		sum := sha256.Sum256([]byte(t.Secret))
		c := &client{Token: t, id: string(sum[:]), counts: new(clientCounts)}
		own := limits{t.Rate, t.Burst}
		if t.Rate <= 0 {
			own = defaults
		}
		c.limiter = own.limiter()
		if old := before.find(sum); old != nil {
			c.keep(old)
		}
		s.sums, s.clients = append(s.sums, sum), append(s.clients, c)
	}
	return s
}

// keep takes over what an earlier client with the same token has used and counted.
func (c *client) keep(old *client) {
	if old.Name == c.Name {
		c.counts = old.counts
	}
	if old.limiter != nil && c.limiter != nil {
		old.limiter.SetLimit(c.limiter.Limit())
		old.limiter.SetBurst(c.limiter.Burst())
		c.limiter = old.limiter
	}
}

// find returns the client whose secret has a sum, or nil. The time that it takes does not depend
// on the secrets.
func (s *tokenSet) find(sum [sha256.Size]byte) *client {
	if s == nil {
		return nil
	}
	found := 0
	for i := range s.sums {
		found |= subtle.ConstantTimeCompare(sum[:], s.sums[i][:]) * (i + 1)
	}
	if found == 0 || found > len(s.clients) {
		return nil
	}
	return s.clients[found-1]
}

// clientOf returns the client of a secret, nil if it is not valid.
func (h *handler) clientOf(secret string) *client {
	return h.tokens.Load().find(sha256.Sum256([]byte(secret)))
}

// needsToken reports whether requests need a token.
func (h *handler) needsToken() bool { return len(h.tokens.Load().clients) > 0 }

// bearer returns the token in a header, empty if there is none.
func bearer(header http.Header) string {
	scheme, secret, _ := strings.Cut(authorization(header), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return strings.TrimSpace(secret)
}

// SetTokens replaces the tokens of a server that requires some. Requests under way go on. It may
// be called at any time, and fails if there is no token.
func (s *Server) SetTokens(tokens []Token) error {
	if !s.handler.needsToken() || len(tokens) == 0 {
		return runner.NewError(runner.KindOther, "a server either always or never requires a token")
	}
	s.handler.setTokens(tokens)
	return nil
}

func (h *handler) setTokens(tokens []Token) {
	h.tokens.Store(newTokenSet(tokens, h.rate, h.tokens.Load()))
}

// limits are a rate of requests. The zero limits allow everything.
type limits struct {
	perSecond float64
	burst     int
}

func (l limits) limiter() *rate.Limiter {
	if l.perSecond <= 0 {
		return nil
	}
	burst := l.burst
	if burst <= 0 {
		burst = int(math.Ceil(min(l.perSecond, 1e6)))
	}
	return rate.NewLimiter(rate.Limit(l.perSecond), burst)
}

// shortestToken is the least length of a token.
const shortestToken = 16

// tokenName matches the names of tokens.
var tokenName = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,64}$`)

// ReadTokens reads a file with one token in each line, which attributes may follow:
//
//	SECRET [name=NAME] [admin] [weight=N] [rate=N/s] [burst=N] [priority=high|normal|low]
//
// They are the fields of [Token]. A rate is a number for a second, a minute or an hour: 10/s,
// 90/m, 500/h. Empty lines and those that begin with # are skipped. The error is of kind io if
// the file cannot be read, and of kind serialization if it has no token, or a line that is not
// valid; its message has the number of the line, and not the secret.
func ReadTokens(file string) ([]Token, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, runner.Wrap(err, runner.KindIO, "read the tokens")
	}
	var tokens []Token
	number, names, secrets := 0, make(map[string]int), make(map[string]int)
	for line := range bytes.Lines(data) {
		number++
		words := strings.Fields(string(line))
		if len(words) == 0 || words[0][0] == '#' {
			continue
		}
		t, err := parseToken(words)
		if t.Name == "" {
			t.Name = fmt.Sprintf("token-%d", len(tokens)+1)
		}
		switch {
		case err != nil:
		case secrets[t.Secret] > 0:
			err = fmt.Errorf("the token is that of line %d, too", secrets[t.Secret])
		case names[t.Name] > 0:
			err = fmt.Errorf("the name %s is that of line %d, too", t.Name, names[t.Name])
		}
		if err != nil {
			return nil, runner.NewError(runner.KindSerialization, fmt.Sprintf("%s:%d: %v", file, number, err)).
				WithHint("a line is SECRET [name=NAME] [admin] [weight=N] [rate=N/s] [burst=N] [priority=high|normal|low]; openssl rand -hex 32 makes a secret")
		}
		secrets[t.Secret], names[t.Name] = number, number
		tokens = append(tokens, t)
	}
	if len(tokens) == 0 {
		return nil, runner.NewError(runner.KindSerialization, "there is no token in "+file).WithHint("make one: openssl rand -hex 32")
	}
	return tokens, nil
}

// parseToken returns the token of a line. Its error does not name the secret.
func parseToken(words []string) (Token, error) {
	t := Token{Secret: words[0]}
	if len(t.Secret) < shortestToken {
		return t, fmt.Errorf("the token has less than %d characters", shortestToken)
	}
	seen := make(map[string]bool)
	for _, word := range words[1:] {
		key, value, hasValue := strings.Cut(word, "=")
		if seen[key] {
			return t, fmt.Errorf("%s comes twice", key)
		}
		seen[key] = true
		if hasValue == (key == "admin") {
			return t, errors.New("after the token, there is something that is no attribute") // perhaps a secret
		}
		if err := t.set(key, value); err != nil {
			return t, err
		}
	}
	return t, nil
}

// mostWeight is the largest weight, so that no token gets next to nothing.
const mostWeight = 1000

// set sets the field of an attribute.
func (t *Token) set(key, value string) (err error) {
	switch key {
	case "admin":
		t.Admin = true
	case "name":
		if t.Name = value; !tokenName.MatchString(value) {
			return errors.New("a name has 1 to 64 letters, digits and characters of _.-")
		}
	case "weight":
		if t.Weight, err = strconv.Atoi(value); err != nil || t.Weight < 1 || t.Weight > mostWeight {
			return fmt.Errorf("a weight is a number from 1 to %d", mostWeight)
		}
	case "rate":
		t.Rate, err = ParseRate(value)
		return err
	case "burst":
		if t.Burst, err = strconv.Atoi(value); err != nil || t.Burst < 1 {
			return errors.New("a burst is a number from 1")
		}
	case "priority":
		var ok bool
		if t.Priority, ok = priorityNames[value]; !ok {
			return errors.New("a priority is high, normal or low")
		}
	default:
		return errors.New("after the token, there is something that is no attribute")
	}
	return nil
}

// rateUnits are the times that a rate may be for.
var rateUnits = map[string]time.Duration{"s": time.Second, "m": time.Minute, "h": time.Hour}

// ParseRate returns the number of requests in a second that a text stands for: 10/s, 90/m or
// 500/h.
func ParseRate(text string) (float64, error) {
	number, unit, _ := strings.Cut(text, "/")
	n, err := strconv.ParseFloat(number, 64)
	per := rateUnits[unit]
	if err != nil || per == 0 || !(n > 0) || n > 1e9 {
		return 0, errors.New("a rate is a number for a second, a minute or an hour: 10/s, 90/m or 500/h")
	}
	return n / per.Seconds(), nil
}
