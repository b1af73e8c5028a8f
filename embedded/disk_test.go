package embedded

import "testing"

// A disk with enough space gives all that is wanted. A smaller one is divided; no stream gets less than its minimum.
func TestFitStreams(t *testing.T) {
	const mib, gib = 1 << 20, 1 << 30
	want := sizes{limits: 512 * mib, bucket: gib}
	for _, c := range []struct {
		room int64
		want sizes
	}{
		{100 * gib, want},
		{3 * gib, want},
		{2880 * mib, want},
		{2 * gib, sizes{452 * mib, 679 * mib}},
		{256 * mib, sizes{49 * mib, 74 * mib}},
		{64 * mib, sizes{8 * mib, 16 * mib}},
		{0, sizes{8 * mib, 16 * mib}},
	} {
		got := fitStreams(c.room, want)
		if got.limits/mib != c.want.limits/mib || got.bucket/mib != c.want.bucket/mib {
			t.Errorf("%d MiB: limits get %d MiB and each bucket %d MiB, want %d and %d", c.room/mib, got.limits/mib,
				got.bucket/mib, c.want.limits/mib, c.want.bucket/mib)
		}
		if fits := got.total() <= c.room; !fits && c.room > 100*mib {
			t.Errorf("%d MiB: %d MiB are given away", c.room/mib, got.total()/mib)
		}
	}
	if got := fitStreams(gib, sizes{512 * mib, 8 * mib}); got.bucket != 8*mib || got.limits != 512*mib {
		t.Errorf("a small cache: %+v", got)
	}
}
