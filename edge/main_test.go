package edge_test

import (
	"testing"

	"go.uber.org/goleak"

	"millrace/embedded/natsserver/natsservertest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m, natsservertest.IgnoreFasthttp()...) }
