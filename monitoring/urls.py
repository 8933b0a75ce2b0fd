"""The dashboard's addresses."""

from django.urls import path

from monitoring.dashboard import broker, models, views

urlpatterns = [
    path("", views.overview, name="overview"),
    path("live", views.live, name="live"),
    path("healthz", views.healthz, name="healthz"),
    path("models/", models.page, name="models"),
    path("models/<slug:slug>/", models.page, name="models-of"),
    path("models/<slug:slug>/<int:number>/", models.switch, name="models-switch"),
    path("kite/", broker.page, name="broker"),
    path("kite/redirect", broker.came_back, name="broker-came-back"),
]
