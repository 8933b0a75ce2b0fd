"""The dashboard's addresses."""

from django.contrib.auth.views import LogoutView
from django.urls import path

from monitoring.dashboard import (
    broker,
    halting,
    models,
    person,
    pinning,
    resolving,
    sign_in,
    trading,
    views,
)

urlpatterns = [
    path("", views.overview, name="overview"),
    path("live", views.live, name="live"),
    path("healthz", views.healthz, name="healthz"),
    path("models/", models.page, name="models"),
    path("models/<slug:slug>/", models.page, name="models-of"),
    path("models/<slug:slug>/<int:number>/", models.switch, name="models-switch"),
    path("trading/", trading.page, name="trading"),
    path("trading/halt/", halting.halt_all, name="trading-halt-all"),
    path("trading/<slug:slug>/halt/", halting.halt, name="trading-halt"),
    path("trading/<slug:slug>/close/", halting.close, name="trading-close"),
    path("trading/<slug:slug>/resume/", halting.resume, name="trading-resume"),
    path("trading/<slug:market>/adopt/<int:number>/", resolving.adopt, name="trading-adopt"),
    path("trading/<slug:market>/giveup/<slug:tag>/", resolving.give_up, name="trading-giveup"),
    path("login/", sign_in.SignIn.as_view(), name="sign-in"),
    path("login/code/", sign_in.second_factor, name="second-factor"),
    path("logout/", LogoutView.as_view(), name="sign-out"),
    path("you/", person.page, name="person"),
    path("you/phone/", person.phone, name="phone"),
    path("you/confirm/", person.confirm_change, name="confirm-change"),
    path("kite/account/", pinning.change_account, name="broker-account"),
    path("kite/", broker.page, name="broker"),
    path("kite/redirect", broker.came_back, name="broker-came-back"),
]
