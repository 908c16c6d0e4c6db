package webhook

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"syscall"

	"code.dny.dev/ssrf"

	"github.com/gophersnake/gophersnake/runner"
)

// The refusals of addresses.
var (
	errNotPublic = errors.New("the address of the host is not public; the operator of the service can allow it")
	errPlain     = errors.New("without TLS only hosts that the operator of the service has allowed are reached; use https")
)

// longestURL is the largest length of the URL of a webhook.
const longestURL = 2000

// CheckURL returns an error if a text is not the URL of a webhook. Whether its host may be
// reached is checked when the host is connected to.
func CheckURL(text string) error {
	u, err := url.Parse(text)
	switch {
	case len(text) > longestURL:
		return fmt.Errorf("it has more than %d characters", longestURL)
	case err != nil:
		return errors.New("it cannot be parsed")
	case u.Scheme != "https" && u.Scheme != "http":
		return errors.New("it begins with neither https:// nor http://")
	case u.Hostname() == "":
		return errors.New("it has no host")
	case u.User != nil:
		return errors.New("it has a user or password; webhooks are signed instead")
	case u.Fragment != "":
		return errors.New("it has a fragment")
	}
	return nil
}

// allowed is what may be reached although it is not public.
type allowed struct {
	hosts    []string
	prefixes []netip.Prefix
	guard    *ssrf.Guardian
}

// hostName matches the names of hosts.
var hostName = regexp.MustCompile(`^[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*\.?$`)

func parseAllowed(texts []string) (*allowed, error) {
	a := &allowed{}
	var v4, v6 []netip.Prefix
	for _, text := range texts {
		prefix, err := netip.ParsePrefix(text)
		if address, single := netip.ParseAddr(strings.Trim(text, "[]")); single == nil {
			address = address.Unmap()
			prefix, err = netip.PrefixFrom(address, address.BitLen()), nil
		}
		switch name := strings.ToLower(text); {
		case err == nil && prefix.Addr().Is4():
			v4 = append(v4, prefix)
		case err == nil:
			v6 = append(v6, prefix)
		case hostName.MatchString(name):
			a.hosts = append(a.hosts, strings.TrimSuffix(name, "."))
		default:
			return nil, runner.NewError(runner.KindOther, fmt.Sprintf("%.100q is neither a host, an address nor a prefix such as 10.0.0.0/8", text)).
				WithHint("an allowed receiver has no scheme, port or path")
		}
	}
	a.prefixes = slices.Concat(v4, v6)
	a.guard = ssrf.New(ssrf.WithAnyPort(), ssrf.WithAllowedV4Prefixes(v4...), ssrf.WithAllowedV6Prefixes(v6...))
	return a, nil
}

// dial returns a function that connects to an address if check permits it. The check is that of
// the address that is about to be connected to, so a name that resolves to another one each time
// (DNS rebinding) gains nothing.
func (a *allowed) dial(check func(netip.Addr) error) func(context.Context, string, string) (net.Conn, error) {
	var free net.Dialer
	checked := net.Dialer{Control: func(_, address string, _ syscall.RawConn) error {
		to, err := netip.ParseAddrPort(address)
		if err != nil {
			return errNotPublic
		}
		return check(to.Addr())
	}}
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		host, _, err := net.SplitHostPort(address)
		if err == nil && slices.Contains(a.hosts, strings.TrimSuffix(strings.ToLower(host), ".")) {
			return free.DialContext(ctx, network, address)
		}
		return checked.DialContext(ctx, network, address)
	}
}

// permit returns an error unless an address is public or allowed.
func (a *allowed) permit(address netip.Addr) error {
	if a.guard.SafeAddr(address.Unmap()) != nil {
		return errNotPublic
	}
	return nil
}

// permitPlain returns an error unless an address is allowed.
func (a *allowed) permitPlain(address netip.Addr) error {
	if err := a.permit(address); err != nil {
		return err
	}
	if !slices.ContainsFunc(a.prefixes, func(p netip.Prefix) bool { return p.Contains(address.Unmap()) }) {
		return errPlain
	}
	return nil
}
