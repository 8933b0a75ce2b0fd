"""The dashboard's addresses."""

from django.urls import path

from monitoring.dashboard import broker, models, trading, views

urlpatterns = [
    path("", views.overview, name="overview"),
    path("live", views.live, name="live"),
    path("healthz", views.healthz, name="healthz"),
    path("models/", models.page, name="models"),
    path("models/<slug:slug>/", models.page, name="models-of"),
    path("models/<slug:slug>/<int:number>/", models.switch, name="models-switch"),
    path("trading/", trading.page, name="trading"),
    path("trading/<slug:slug>/halt/", trading.halt, name="trading-halt"),
    path("trading/<slug:slug>/resume/", trading.resume, name="trading-resume"),
    path("trading/<slug:market>/adopt/<int:number>/", trading.adopt, name="trading-adopt"),
    path("trading/<slug:market>/giveup/<slug:tag>/", trading.give_up, name="trading-giveup"),
    path("kite/", broker.page, name="broker"),
    path("kite/redirect", broker.came_back, name="broker-came-back"),
]
