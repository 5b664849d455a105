"""The service: schedule, capture, measuring, store, messaging, web."""
