package nodetest

import "go.uber.org/goleak"

// IgnoreFasthttp are the goroutines of fasthttp that outlive its servers: a clock for the Date field, and the cleaner
// of a stopped worker pool, which sleeps for up to ten seconds before it sees that it is stopped.
func IgnoreFasthttp() []goleak.Option {
	return []goleak.Option{
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*workerPool).Start.func2"),
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.updateServerDate.func1"),
		goleak.IgnoreAnyFunction("github.com/gofiber/fiber/v2/utils.StartTimeStampUpdater.func1.1"),
	}
}
