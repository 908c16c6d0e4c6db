package cli

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"image"
	"image/png"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/cmd/gophersnake/internal/fixtures"
)

// shopCode is the code of a pipeline whose node price crashes when it is told to, and then waits
// while the file hold exists before it is ready again.
const shopCode = `
from __future__ import annotations
import logging, os, time
from dataclasses import dataclass
from typing import Any, Iterator, Literal
from gophersnake import Audio, Image, Table, node

log = logging.getLogger("shop")

@dataclass
class Order:
    item: str
    amount: int
    how: Literal["fine", "crash", "raise"] = "fine"
    gift: bool = False

@node
def check(order: Order) -> dict[str, Any]:
    """Check an order. Its field how says whether a node fails."""
    if order.how == "raise":
        raise ValueError("<img src=x onerror='window.attacked=1'> is no order")
    log.warning("checked <b>%s</b>", order.item)
    return {"item": order.item, "amount": order.amount, "how": order.how}

@node
class Price:
    def setup(self) -> None:
        while os.path.exists("hold"):
            time.sleep(0.01)

    def process(self, order: dict[str, Any]) -> dict[str, Any]:
        if order["how"] == "crash":
            open("hold", "w").close()
            os.abort()
        return {**order, "price": 3 * order["amount"]}

@node
def stock(order: dict[str, Any]) -> int:
    return 10

@node
def bill(price: dict[str, Any], stock: int) -> list[dict[str, Any]]:
    return [{"what": price["item"], "sum": price["price"]}, {"what": "left", "sum": stock - price["amount"]}]

@node
def develop(picture: Image) -> Image:
    """Return an image as it is."""
    return picture

@node
def replay(sound: Audio) -> Audio:
    return sound

@node
def rows(of: Table) -> Table:
    return of

@node
def numbers(n: int) -> Iterator[int]:
    for i in range(n):
        yield 9007199254740993 + i
`

const shopManifest = `
version: v1
python: nodes.py
metadata: {description: "Prices an order, and says what is left."}
nodes:
  - {id: check, node_type: check, workers: 2, retry: none}
  - {id: price, node_type: Price, workers: {spare: 0}, retry: none}
  - {id: stock, node_type: stock}
  - {id: bill, node_type: bill}
connections:
  - {from: check, to: price}
  - {from: check, to: stock}
  - {from: price, to: bill.price}
  - {from: stock, to: bill.stock}
`

// shop writes pipelines, and returns the arguments that serve those of some names, and the folder
// of their code.
func shop(t *testing.T, names ...string) (args []string, folder string) {
	t.Helper()
	folder = t.TempDir()
	for name, text := range map[string]string{
		"nodes.py": shopCode, "shop.yaml": shopManifest,
		"develop.yaml": "version: v1\npython: nodes.py\nnodes: [{id: develop, node_type: develop}]\n",
		"replay.yaml":  "version: v1\npython: nodes.py\nnodes: [{id: replay, node_type: replay}]\n",
		"rows.yaml":    "version: v1\npython: nodes.py\nnodes: [{id: rows, node_type: rows}]\n",
		"numbers.yaml": "version: v1\npython: nodes.py\nnodes: [{id: numbers, node_type: numbers}]\n",
	} {
		require.NoError(t, os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600))
	}
	for _, name := range names {
		args = append(args, filepath.Join(folder, name+".yaml"))
	}
	return args, folder
}

// tab is a tab of a browser.
type tab struct {
	ctx context.Context

	mu       sync.Mutex
	problems []string // exceptions and messages of the console
}

// newTab opens a tab of a new headless Chromium. Without one, it skips the test.
func newTab(t *testing.T) *tab {
	t.Helper()
	path := os.Getenv("GOPHERSNAKE_CHROMIUM")
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if found, err := exec.LookPath(name); path == "" && err == nil {
			path = found
		}
	}
	if path == "" {
		t.Skip("there is no Chromium to test the page with; apt-get install chromium")
	}
	options := append(slices.Clone(chromedp.DefaultExecAllocatorOptions[:]), chromedp.ExecPath(path), chromedp.NoSandbox,
		chromedp.UserDataDir(t.TempDir()), chromedp.Flag("use-fake-device-for-media-stream", true), chromedp.Flag("use-fake-ui-for-media-stream", true),
		chromedp.Flag("disable-dev-shm-usage", true))
	ctx, cancelAllocator := chromedp.NewExecAllocator(t.Context(), options...)
	t.Cleanup(cancelAllocator)
	ctx, cancelTab := chromedp.NewContext(ctx)
	t.Cleanup(cancelTab)
	b := &tab{ctx: ctx}
	require.NoError(t, chromedp.Do(ctx), "start %s", path)
	messages := chromedp.Console(ctx)
	go func() {
		for m, err := range messages {
			if err != nil {
				return // the tab is closed
			}
			if (m.IsException() || m.Type == "error") && m.Source != "network" { // calls fail on purpose
				b.note(m.String())
			}
		}
	}()
	return b
}

func (b *tab) note(problem string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.problems = append(b.problems, problem)
}

// step is a step of a user.
type step = chromedp.Action[chromedp.Void]

// do takes steps.
func (b *tab) do(t *testing.T, steps ...step) {
	t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	for i, s := range steps {
		b.check(t, chromedp.Do(ctx, s), "step %d", i)
	}
}

// check fails the test with what the page shows.
func (b *tab) check(t *testing.T, err error, during ...any) {
	t.Helper()
	if err != nil {
		text, _ := chromedp.Run(b.ctx, chromedp.Evaluate[string]("document.body.innerText"))
		b.mu.Lock()
		defer b.mu.Unlock()
		require.NoError(t, err, "%s\n%s\n%s", during, text, b.problems)
	}
}

// value returns the value of an expression, or of the promise that it is.
func value[T any](t *testing.T, b *tab, expression string) T {
	t.Helper()
	v, err := chromedp.Run(b.ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
	b.check(t, err)
	return v
}

// until waits until an expression is true.
func (b *tab) until(t *testing.T, expression string) {
	t.Helper()
	b.do(t, chromedp.Poll[chromedp.Void](expression, chromedp.WithPollingTimeout(patience)))
}

// size sets the size of the window, and the theme.
func (b *tab) size(t *testing.T, width, height int64, theme string) {
	t.Helper()
	b.do(t, chromedp.EmulateViewport(width, height))
	b.prefer(t, theme)
}

// prefer sets the theme, and stops animations.
func (b *tab) prefer(t *testing.T, theme string) {
	t.Helper()
	_, err := chromedp.Call(b.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{
		{Name: "prefers-color-scheme", Value: theme}, {Name: "prefers-reduced-motion", Value: "reduce"},
	}})
	b.check(t, err)
}

// look writes a screenshot to the folder that GOPHERSNAKE_SCREENSHOTS names, if it is set.
func (b *tab) look(t *testing.T, name string) {
	t.Helper()
	folder := os.Getenv("GOPHERSNAKE_SCREENSHOTS")
	if folder == "" {
		return
	}
	picture, err := chromedp.Run(b.ctx, chromedp.FullScreenshot(100))
	b.check(t, err)
	require.NoError(t, os.MkdirAll(folder, 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(folder, name+".png"), picture, 0o600))
}

// axe returns the source of axe-core.
var axe = sync.OnceValues(func() (string, error) {
	file, err := os.Open("testdata/axe/axe.min.js.gz")
	if err != nil {
		return "", err
	}
	defer func() { _ = file.Close() }()
	from, err := gzip.NewReader(file)
	if err != nil {
		return "", err
	}
	source, err := io.ReadAll(from)
	return string(source), err
})

// isAccessible checks what is shown with all rules of axe-core, in both themes, and that nothing is
// wider than the window.
func (b *tab) isAccessible(t *testing.T, view string) {
	t.Helper()
	source, err := axe()
	require.NoError(t, err)
	if !value[bool](t, b, "'axe' in window") {
		b.do(t, chromedp.Evaluate[chromedp.Void](source))
	}
	for _, theme := range []string{"light", "dark"} {
		b.prefer(t, theme)
		found := value[string](t, b, `axe.run().then((r) => r.violations.map((v) => v.id + ": " + v.help + "\n" +
			v.nodes.map((n) => "  " + n.html.slice(0, 200) + " " + n.any.map((a) => a.message)).join("\n")).join("\n"))`)
		assert.Empty(t, found, "%s, %s", view, theme)
	}
	assert.Equal(t, int64(0), value[int64](t, b, "Math.max(0, document.documentElement.scrollWidth - innerWidth)"), "%s scrolls to the side", view)
	b.mu.Lock()
	defer b.mu.Unlock()
	assert.Empty(t, b.problems, view)
}

// choose sets the value of a select, as the user does.
func choose(selector, option string) step {
	return chromedp.Evaluate[chromedp.Void](fmt.Sprintf(`{ const s = document.querySelector(%q); s.value = %q; s.dispatchEvent(new Event("change", {bubbles: true})); }`, selector, option))
}

// fieldOf returns a selector of the field with a label.
func fieldOf(label string) string {
	return fmt.Sprintf(`//*[@id=//label[normalize-space(.)=%q]/@for]`, label)
}

const callButton = `.try button[type="submit"]`

func TestThePageShowsACrashAndHowItHeals(t *testing.T) {
	args, folder := shop(t, "shop", "numbers")
	p, url := serving(t, append(args, "--admin")...)
	defer func() { _ = p.Process.Kill() }()
	b := newTab(t)
	b.size(t, 1280, 900, "light")
	b.do(t, chromedp.Navigate(url+"/#/shop/price"), chromedp.WaitVisible(`.node[data-state="healthy"]`), chromedp.WaitVisible(fieldOf("item")))
	b.isAccessible(t, "a pipeline that is healthy")

	// A call by the form made of the schema.
	b.do(t, chromedp.SendKeys(fieldOf("item"), "tea"), chromedp.SetValue(fieldOf("amount"), "4"),
		chromedp.Click(callButton), chromedp.WaitVisible(`.result table`))
	assert.Equal(t, "what\tsum\ntea\t12\nleft\t6", value[string](t, b, `document.querySelector(".result table").innerText`))
	for range 30 { // so that there is something to see
		status, _ := ask(t, url+"/v1/pipelines/shop", `{"item": "ink", "amount": 1}`)
		require.Equal(t, http.StatusOK, status)
	}
	b.do(t, chromedp.Click(`//button[span/span[text()="check"]]`))
	b.until(t, `document.querySelector(".log").innerText.includes("checked <b>ink</b>")`)
	b.until(t, `document.querySelector(".node .figures").innerText.match(/p50 [0-9.]+ (ms|µs)/)`)
	b.prefer(t, "light")
	b.look(t, "healthy-light")
	b.isAccessible(t, "a node with a log and a result")

	// The crash appears, with the traceback.
	b.do(t, chromedp.Click(`//button[span/span[text()="price"]]`),
		choose(`.try fieldset select`, `"crash"`), chromedp.Click(callButton))
	b.until(t, `document.querySelector(".failure")?.innerText.includes("SIGABRT")`)
	b.until(t, `document.querySelector('.node[aria-pressed="true"]').dataset.state !== "healthy"`)
	assert.Contains(t, value[string](t, b, `document.querySelector(".failure").innerText`), `nodes.py", line`)
	b.until(t, `document.getElementById("announcer").innerText.includes("price is ")`)
	b.size(t, 1280, 900, "dark")
	b.look(t, "crash-dark")
	b.size(t, 360, 740, "light")
	b.until(t, `document.querySelector(".canvas").clientWidth < 360`)
	b.look(t, "crash-phone")
	b.isAccessible(t, "a crash on a phone")

	// And it heals.
	require.NoError(t, os.Remove(filepath.Join(folder, "hold")))
	b.until(t, `document.querySelector('.node[aria-pressed="true"]').dataset.state === "healthy"`)
	b.size(t, 1280, 900, "light")
	b.look(t, "healed-light")
	assert.Contains(t, value[string](t, b, `document.querySelector(".tiles").innerText`), "Deaths\n1")

	// Restart makes new workers.
	b.do(t, chromedp.Click(`//button[text()="Restart"]`))
	b.until(t, `document.querySelector(".place .note").innerText === "1 node restarted"`)
	b.until(t, `document.querySelector(".tiles").innerText.includes("Generation\n2")`)
}

func TestThePageShowsResultsAndTextAsWhatTheyAre(t *testing.T) {
	args, _ := shop(t, "shop", "develop", "numbers", "replay", "rows")
	p, url := serving(t, append(args, "--debug")...)
	defer func() { _ = p.Process.Kill() }()
	b := newTab(t)
	b.size(t, 1280, 900, "dark")
	b.do(t, chromedp.Navigate(url+"/#/shop/check"), chromedp.WaitVisible(fieldOf("item")),
		chromedp.SendKeys(fieldOf("item"), "<img src=x onerror='window.attacked=1'>"), chromedp.SetValue(fieldOf("amount"), "1"), choose(`.try fieldset select`, `"raise"`),
		chromedp.Click(callButton), chromedp.WaitVisible(`.problem`))
	b.until(t, `document.querySelector(".failure")?.innerText.includes("onerror='window.attacked=1'")`)
	b.look(t, "error-dark")
	assert.False(t, value[bool](t, b, `"attacked" in window`))
	assert.Equal(t, 1, value[int](t, b, `document.querySelectorAll("img").length`), "only the logo")
	b.isAccessible(t, "a call that failed")
	assert.Equal(t, "application/octet-stream image/png", value[string](t, b,
		`import("/ui/result.js").then((m) => ["text/html", "image/png"].map(m.safeType).join(" "))`), "a file of a node is no page")

	// The file of an image comes back, and is shown as a picture.
	picture := image.NewNRGBA(image.Rect(0, 0, 160, 100))
	for x := range 160 {
		for y := range 100 {
			picture.Pix[picture.PixOffset(x, y)+x/54] = 255
			picture.Pix[picture.PixOffset(x, y)+3] = 255
		}
	}
	var file bytes.Buffer
	require.NoError(t, png.Encode(&file, picture))
	path := fixtures.Write(t, "picture.png", file.String())
	b.do(t, chromedp.Click(`//nav//a[contains(.,"develop")]`), chromedp.WaitVisible(`//label[text()="Form"]`),
		chromedp.SetUploadFiles(`.try input[type="file"]`, []string{path}), chromedp.Click(callButton), chromedp.WaitVisible(`.result img`))
	b.until(t, `document.querySelector(".result img").naturalWidth === 160`)
	b.prefer(t, "dark")
	b.look(t, "picture-dark")
	b.isAccessible(t, "a picture as the result")

	// The numbers of a stream stay exact.
	b.do(t, chromedp.Click(`//nav//a[contains(.,"numbers")]`), chromedp.WaitVisible(`//label[text()="Form"]`),
		chromedp.SetValue(fieldOf("n"), "3"), chromedp.Click(fieldOf("Show each value as soon as there is one")),
		chromedp.Click(callButton))
	b.until(t, `document.querySelectorAll(".values li").length === 3`)
	assert.Equal(t, "9007199254740995", value[string](t, b, `document.querySelector(".values li:last-child").innerText`))

	// A recording of the microphone is a WAV file, and a recording that is returned can be played.
	b.do(t, chromedp.Click(`//nav//a[contains(.,"replay")]`), chromedp.WaitVisible(fieldOf("sound")), chromedp.Click(`//button[text()="Record"]`))
	b.until(t, `document.querySelector(".field .note").innerText.includes("recording")`)
	b.do(t, chromedp.Click(`//button[text()="Stop"]`))
	b.until(t, `/recorded \d+ KiB/.test(document.querySelector(".field .note").innerText)`)
	b.do(t, chromedp.Click(callButton), chromedp.WaitVisible(`.result audio`))
	b.until(t, `document.querySelector(".result audio").readyState > 0`)
	b.isAccessible(t, "a recording as the result")

	// A table of a file is shown as a table.
	file.Reset()
	file.WriteString("word,n\n\"a \"\"b\"\", <i>c</i>\",1\nd,2\n")
	path = fixtures.Write(t, "rows.csv", file.String())
	b.do(t, chromedp.Click(`//nav//a[contains(.,"rows")]`), chromedp.WaitVisible(fieldOf("of")),
		chromedp.SetUploadFiles(`.try input[type="file"]`, []string{path}), chromedp.Click(callButton), chromedp.WaitVisible(`.result table`))
	assert.Equal(t, "word\tn\na \"b\", <i>c</i>\t1\nd\t2", value[string](t, b, `document.querySelector(".result table").innerText`))
}

func TestThePageAsksForAToken(t *testing.T) {
	args, _ := shop(t, "shop")
	tokens := fixtures.Write(t, "tokens", "0123456789abcdef name=reader\nfedcba9876543210 admin\n")
	p, url := serving(t, append(args, "--token-file", tokens)...)
	defer func() { _ = p.Process.Kill() }()
	b := newTab(t)
	b.size(t, 360, 740, "light")
	b.do(t, chromedp.Navigate(url+"/#/shop"), chromedp.WaitVisible(`#token`))
	b.isAccessible(t, "the login")
	b.prefer(t, "light")
	b.look(t, "login-phone")
	b.do(t, chromedp.SendKeys(`#token`, "a wrong one"), chromedp.Click(`.login button`))
	b.until(t, `document.querySelector("[role=alert]").innerText === "the token is not valid"`)
	b.do(t, chromedp.SetValue(`#token`, "0123456789abcdef"), chromedp.Click(`.login button`), chromedp.WaitVisible(`.node`))
	assert.Empty(t, value[string](t, b, "document.cookie"), "scripts cannot read the cookie")
	assert.Zero(t, value[int](t, b, `[...document.querySelectorAll("button")].filter((b) => /Restart|Reload/.test(b.innerText)).length`))
	b.look(t, "reader-phone")
	b.do(t, chromedp.Click(`#logout`), chromedp.WaitVisible(`#token`))
	b.do(t, chromedp.SetValue(`#token`, "fedcba9876543210"), chromedp.Click(`.login button`), chromedp.WaitVisible(`//button[text()="Reload code"]`))
	b.do(t, chromedp.Click(`//button[text()="Reload code"]`))
	b.until(t, `document.querySelector(".wide .note").innerText === "4 nodes reloaded"`)
	var may struct{ Admin, Session bool }
	require.NoError(t, json.Unmarshal([]byte(value[string](t, b, `fetch("v1/status").then((r) => r.json()).then((s) => JSON.stringify(s.may))`)), &may))
	assert.True(t, may.Admin && may.Session)
	assert.False(t, strings.Contains(value[string](t, b, "JSON.stringify(localStorage)"), "fedcba"))
}
