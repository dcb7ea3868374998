package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/tlog"
)

// fileMax is the length of a full bundle of the longest entries; no file of a log is longer.
const fileMax = width * (2 + 65535)

// files reads a ledger's folder or address. It is a tlog.TileReader.
type files struct {
	at     string
	client http.Client
	kept   map[tlog.Tile][]byte
}

func open(at string, roots *x509.CertPool) *files {
	secure := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}
	client := http.Client{Timeout: 30 * time.Second, Transport: secure}
	return &files{strings.TrimSuffix(at, "/"), client, map[tlog.Tile][]byte{}}
}

func (f *files) read(name string) ([]byte, error) {
	body, err := f.body(name)
	if err != nil {
		return nil, unread{err}
	}
	defer body.Close()
	data, err := io.ReadAll(io.LimitReader(body, fileMax+1))
	if err != nil {
		return nil, unread{err}
	}
	if len(data) > fileMax {
		return nil, fmt.Errorf("%s is longer than any file of a log", name)
	}
	return data, nil
}

func (f *files) body(name string) (io.ReadCloser, error) {
	if !strings.HasPrefix(f.at, "http://") && !strings.HasPrefix(f.at, "https://") {
		return os.Open(filepath.Join(f.at, filepath.FromSlash(name)))
	}
	answer, err := f.client.Get(f.at + "/" + name)
	if err != nil {
		return nil, err
	}
	if answer.StatusCode != http.StatusOK {
		answer.Body.Close()
		return nil, fmt.Errorf("%s: %s", name, answer.Status)
	}
	return answer.Body, nil
}

// tile reads a tile of hashes, or for L = -1 a bundle of entries. A partial one may be gone once the full one
// stands; then it is the beginning of that one, and not exact.
func (f *files) tile(t tlog.Tile) (data []byte, exact bool, err error) {
	// tlog's tile/8/0/x001/234.p/5 and tile/8/data/... are tile/0/x001/234.p/5 and tile/entries/... here.
	name := func(t tlog.Tile) string {
		rest := strings.TrimPrefix(t.Path(), fmt.Sprintf("tile/%d/", height))
		if t.L == -1 {
			rest = "entries" + strings.TrimPrefix(rest, "data")
		}
		return "tile/" + rest
	}
	if data, err = f.read(name(t)); err == nil || t.W == width {
		return data, true, err
	}
	full := t
	full.W = width
	data, fullErr := f.read(name(full))
	if fullErr != nil {
		return nil, false, err
	}
	return data, false, nil
}

func (f *files) Height() int { return height }

func (f *files) SaveTiles(tiles []tlog.Tile, data [][]byte) {
	for i, t := range tiles {
		f.kept[t] = data[i]
	}
}

func (f *files) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	all := make([][]byte, len(tiles))
	for i, t := range tiles {
		if data, ok := f.kept[t]; ok {
			all[i] = data
			continue
		}
		data, exact, err := f.tile(t)
		if err != nil {
			return nil, err
		}
		if size := t.W * tlog.HashSize; len(data) > size && !exact {
			data = data[:size]
		} else if len(data) != size {
			return nil, fmt.Errorf("%s has %d bytes, not %d", t.Path(), len(data), size)
		}
		all[i] = data
	}
	return all, nil
}
