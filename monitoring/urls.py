"""The dashboard's addresses."""

from django.urls import path

from monitoring.dashboard import broker, views

urlpatterns = [
    path("", views.overview, name="overview"),
    path("live", views.live, name="live"),
    path("healthz", views.healthz, name="healthz"),
    path("kite/", broker.page, name="broker"),
    path("kite/redirect", broker.came_back, name="broker-came-back"),
]
