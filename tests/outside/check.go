// Checks a ledger of chordae with Go's own libraries for transparency logs, those of the Go checksum database
// (golang.org/x/mod/sumdb/note and tlog). It shares no code with chordae. Of its formats it knows where files lie
// (C2SP tlog-tiles), what a checkpoint and a cosignature say (C2SP tlog-checkpoint, tlog-cosignature), and how a
// bundle holds entries.
//
//	trust file -- log key --> checkpoint: signature -- size, root --> tiles --> inclusion of every entry
//	                              '-- older checkpoint: signature, consistency
//
// Usage: check -trust TRUST.json [-older CHECKPOINT] FOLDER|URL
//
// Exit status: 0 all of it holds, 1 something could not be read, 2 wrong usage, 3 something does not hold.
// Whether the policy's quorum is met is not judged; each witness that has cosigned is named.
package main

import (
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"os"

	"golang.org/x/mod/sumdb/tlog"
)

const (
	height  = 8 // a tile is 2^8 hashes wide
	width   = 1 << height
	sizeMax = 1 << 30 // entries of a log that this program reads in one go
)

// unread is an error of reading; every other error is something that does not hold.
type unread struct{ error }

func main() {
	trustFile := flag.String("trust", "", "trust file, as `chordae trust export` writes it")
	older := flag.String("older", "", "a checkpoint of the same log, kept from before")
	flag.Parse()
	if *trustFile == "" || flag.NArg() != 1 {
		fmt.Fprintln(os.Stderr, "usage: check -trust TRUST.json [-older CHECKPOINT] FOLDER|URL")
		os.Exit(2)
	}
	err := check(*trustFile, *older, flag.Arg(0))
	switch {
	case err == nil:
		fmt.Println("all of it holds")
	case errors.As(err, &unread{}):
		fmt.Fprintln(os.Stderr, "could not read:", err)
		os.Exit(1)
	default:
		fmt.Fprintln(os.Stderr, "does not hold:", err)
		os.Exit(3)
	}
}

func check(trustFile, older, at string) error {
	who, err := readTrust(trustFile)
	if err != nil {
		return err
	}
	files := open(at, who.roots)
	text, err := files.read("checkpoint")
	if err != nil {
		return err
	}
	tree, err := who.checkpoint(text)
	if err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	fmt.Printf("checkpoint: %d entries, signed by %s\n", tree.N, who.log.Name())
	who.cosigned(text)
	if tree.N > sizeMax {
		return unread{fmt.Errorf("%d entries are too many for this program", tree.N)}
	}
	// This reader authenticates tiles, but in some versions (0.7.0 is one) not each of them. So nothing here relies on
	// it: every proof that is made from tiles is held against the root. Inclusion comes first: after it the tiles are
	// known to be right, and a consistency proof that does not hold means another log.
	hashes := tlog.TileHashReader(tree, files)
	if err := included(files, tree, hashes); err != nil || older == "" {
		return err
	}
	return consistent(who, older, tree, hashes)
}

// consistent shows that the log that was signed before is the beginning of this one.
func consistent(who *trusted, path string, tree tlog.Tree, hashes tlog.HashReader) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return unread{err}
	}
	old, err := who.checkpoint(text)
	if err != nil {
		return fmt.Errorf("older checkpoint: %w", err)
	}
	if old.N > tree.N {
		return fmt.Errorf("rolled back: %d entries were signed before, now there are %d", old.N, tree.N)
	}
	if old.N > 0 {
		proof, err := tlog.ProveTree(tree.N, old.N, hashes)
		if err != nil {
			return fmt.Errorf("tiles: %w", err)
		}
		if tlog.CheckTree(proof, tree.N, tree.Hash, old.N, old.Hash) != nil {
			return fmt.Errorf("forked: the log does not begin with the %d entries that were signed before", old.N)
		}
	}
	fmt.Printf("consistency: it begins with the %d entries that were signed before\n", old.N)
	return nil
}

// included shows that each entry of each bundle lies under the root, by an inclusion proof of its own.
func included(files *files, tree tlog.Tree, hashes tlog.HashReader) error {
	var id int64
	for n := int64(0); id < tree.N; n++ {
		w := tree.N - id
		if w > width {
			w = width
		}
		bundle, exact, err := files.tile(tlog.Tile{H: height, L: -1, N: n, W: int(w)})
		if err != nil {
			return err
		}
		for ; w > 0; w, id = w-1, id+1 {
			if len(bundle) < 2 || len(bundle)-2 < int(binary.BigEndian.Uint16(bundle)) {
				return fmt.Errorf("entry %d is cut off", id)
			}
			end := 2 + int(binary.BigEndian.Uint16(bundle))
			leaf := tlog.RecordHash(bundle[2:end])
			bundle = bundle[end:]
			proof, err := tlog.ProveRecord(tree.N, id, hashes)
			if err != nil {
				return fmt.Errorf("tiles: %w", err)
			}
			if tlog.CheckRecord(proof, tree.N, tree.Hash, id, leaf) != nil {
				return fmt.Errorf("entry %d and the tiles do not lead to the root", id)
			}
		}
		if exact && len(bundle) > 0 {
			return fmt.Errorf("bundle %d: bytes follow its entries", n)
		}
	}
	fmt.Printf("inclusion: each of the %d entries\n", id)
	return nil
}
