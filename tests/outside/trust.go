package main

import (
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// trusted is what a trust file says of its log: who signs it (note.NewVerifier: Ed25519, type 0x01), who cosigns it,
// and the authority of its server.
type trusted struct {
	log       note.Verifier
	witnesses []note.Verifier
	roots     *x509.CertPool // for TLS only; nil: the system's
}

func readTrust(path string) (*trusted, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, unread{err}
	}
	var file struct{ Policy, CA string }
	if err := json.Unmarshal(data, &file); err != nil {
		return nil, unread{fmt.Errorf("%s: %w", path, err)}
	}
	who := &trusted{}
	if file.CA != "" {
		who.roots = x509.NewCertPool()
		who.roots.AppendCertsFromPEM([]byte(file.CA))
	}
	for _, line := range strings.Split(file.Policy, "\n") {
		words := strings.Fields(line)
		switch {
		case len(words) >= 2 && words[0] == "log" && who.log == nil:
			who.log, err = note.NewVerifier(words[1])
		case len(words) >= 3 && words[0] == "witness":
			var witness note.Verifier
			witness, err = newWitness(words[2])
			who.witnesses = append(who.witnesses, witness)
		}
		if err != nil {
			return nil, unread{fmt.Errorf("%s: %q: %w", path, line, err)}
		}
	}
	if who.log == nil {
		return nil, unread{fmt.Errorf("%s: the policy names no log", path)}
	}
	return who, nil
}

// checkpoint opens a checkpoint that the trusted log has signed: its size and root.
func (who *trusted) checkpoint(text []byte) (tlog.Tree, error) {
	signed, err := note.Open(text, note.VerifierList(who.log))
	if err != nil {
		return tlog.Tree{}, err
	}
	lines := strings.Split(signed.Text, "\n")
	if len(lines) != 4 || lines[0] != who.log.Name() {
		return tlog.Tree{}, errors.New("it is not one of the trusted log's name, size and root")
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	if err != nil || size < 0 || strconv.FormatInt(size, 10) != lines[1] {
		return tlog.Tree{}, fmt.Errorf("%q is no size", lines[1])
	}
	root, err := tlog.ParseHash(lines[2])
	return tlog.Tree{N: size, Hash: root}, err
}

// cosigned names the witnesses whose cosignature holds.
func (who *trusted) cosigned(text []byte) {
	for _, w := range who.witnesses {
		signed, err := note.Open(text, note.VerifierList(w))
		if err != nil {
			fmt.Printf("not cosigned by %s: %v\n", w.Name(), err)
			continue
		}
		raw, _ := base64.StdEncoding.DecodeString(signed.Sigs[0].Base64)
		at := time.Unix(int64(binary.BigEndian.Uint64(raw[4:])), 0)
		fmt.Printf("cosigned by %s at %s\n", w.Name(), at.UTC().Format(time.RFC3339))
	}
}

// A witness verifies cosignatures (C2SP tlog-cosignature v1, type 0x04), which note does not know by itself.
type witness struct {
	name string
	hash uint32
	key  ed25519.PublicKey
}

const cosignatureType = 0x04

func newWitness(vkey string) (note.Verifier, error) {
	parts := strings.SplitN(vkey, "+", 3)
	if len(parts) != 3 {
		return nil, errors.New("not a verifier key")
	}
	typed, err := base64.StdEncoding.DecodeString(parts[2])
	if err != nil || len(typed) != 1+ed25519.PublicKeySize || typed[0] != cosignatureType {
		return nil, errors.New("not a verifier key of type 0x04")
	}
	sum := sha256.Sum256(append([]byte(parts[0]+"\n"), typed...))
	if hex.EncodeToString(sum[:4]) != parts[1] {
		return nil, errors.New("the key is not the one of its hash")
	}
	return witness{parts[0], binary.BigEndian.Uint32(sum[:]), typed[1:]}, nil
}

func (w witness) Name() string    { return w.name }
func (w witness) KeyHash() uint32 { return w.hash }

func (w witness) Verify(msg, sig []byte) bool {
	if len(sig) != 8+ed25519.SignatureSize {
		return false
	}
	signed := fmt.Sprintf("cosignature/v1\ntime %d\n%s", binary.BigEndian.Uint64(sig), msg)
	return ed25519.Verify(w.key, []byte(signed), sig[8:])
}
